"""As small as it should be: what a union shrink leaves of well-known models with random zeros."""

from __future__ import annotations

import pytest
import torch
import torchvision

from campfire_fx import shrink
from tests.assertions import parameters
from tests.random_zeros import random_zeros, randomise

# The shares of parameters that a trial with less in it (no merging of constants) left.
LEFT = {
    "resnet50": 0.56,
    "densenet121": 0.39,
    "mobilenet_v2": 0.38,
    "googlenet": 0.20,
    "inception_v3": 0.47,
    "efficientnet_b0": 0.57,
    "squeezenet1_1": 0.36,
}
WITHOUT_INIT = ("googlenet", "inception_v3")  # their own initialisation takes a minute


def sparse(name: str) -> torch.nn.Module:
    """Return a model with random statistics, half of its filters and a third of its other kernels zero."""
    torch.manual_seed(0)
    options = {"init_weights": False} if name in WITHOUT_INIT else {}
    return random_zeros(randomise(torchvision.models.get_model(name, weights=None, **options), biases=False))


@pytest.mark.parametrize("name", LEFT)
def test_parameters_left(name: str) -> None:
    model = sparse(name)
    slim = shrink(model, torch.randn(1, 3, 96, 96), verify=False)
    left = parameters(slim) / parameters(model)
    assert left <= LEFT[name], f"{name}: {left:.1%} of the parameters are left"


def test_gate_leaves_less_of_a_residual_network() -> None:
    model, x = sparse("resnet50"), torch.randn(1, 3, 96, 96)
    union, gate = (parameters(shrink(model, x, residual=residual, verify=False)) for residual in ("union", "gate"))
    assert gate < 0.95 * union, f"gate leaves {gate}, union {union}"
