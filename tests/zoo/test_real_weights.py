"""Pretrained networks, sparsified in one shot and shrunk: the output is the masked model's."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from campfire_fx import shrink, sparsify
from tests.assertions import (
    Snapshot,
    assert_same_output,
    assert_says_something,
    assert_smaller,
    assert_untouched,
    parameters,
)
from tests.random_zeros import random_zeros
from tests.zoo.real_weights import NETWORKS, Network, NotInstalled

SMALL = [network for network in NETWORKS.values() if network.name != "CREPE full"]
small = pytest.mark.parametrize("network", SMALL, ids=lambda network: network.name)


def load(network: Network, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return the network with its weights, or skip the test."""
    try:
        return network.load().to(dtype).eval()
    except NotInstalled as missing:
        pytest.skip(str(missing))


def wishes(regime: str) -> dict[str, Any]:
    """Return how strongly to prune at once: more would leave untrained networks constant."""
    return {"regime": regime, "sparsity": 0.7 if regime == "combined" else 0.5}


@small
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("regime", ["combined", "filter"])
@pytest.mark.parametrize("dead_norm", ["zero", "keep"])
def test_slim_is_the_masked_model(network: Network, regime: str, dead_norm: str, dtype: torch.dtype) -> None:
    model = load(network, dtype)
    snapshot = Snapshot.of(model)
    example, other = (network.inputs(shape, dtype) for shape in (network.shape, network.other))
    sparse = sparsify(model, example_inputs=example, dead_norm=dead_norm, **wishes(regime))
    sparse.finalize()
    slim = sparse.shrink(verify=False)
    assert_untouched(model, snapshot)
    assert_says_something(sparse, example)
    for inputs in (example, other):
        assert_same_output(sparse, slim, inputs)
    if regime == "filter":
        assert_smaller(sparse, slim)


@small
def test_trained_statistics_with_random_zeros(network: Network) -> None:
    model = random_zeros(load(network, torch.float64))
    example, other = (network.inputs(shape, torch.float64) for shape in (network.shape, network.other))
    slim = shrink(model, example, verify=False)
    for inputs in (example, other):
        assert_same_output(model, slim, inputs)
    assert parameters(slim) < 0.8 * parameters(model)


def test_the_weights_are_the_trained_ones() -> None:
    """CREPE hears a sine of 440 Hz as 440 Hz; so does its sparse and slim form, at a sparsity that does no harm."""
    model = load(NETWORKS["CREPE tiny"])
    sine = torch.sin(2 * math.pi * 440 * torch.arange(1024) / 16000)
    frame = ((sine - sine.mean()) / sine.std()).unsqueeze(0)
    slim = sparsify(model, "unstructured", sparsity=0.3, example_inputs=(frame,))
    slim.finalize()
    for network in (model, slim.shrink()):
        cents = 20 * int(network.eval()(frame).argmax()) + 1997.3794084376191
        assert abs(10 * 2 ** (cents / 1200) - 440) < 10
