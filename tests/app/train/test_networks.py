"""The small networks: sizes as published for their kind, and a new start that is really new."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from campfire_fx.app.train.networks import NETWORKS, resnet8, restart


@pytest.mark.parametrize(("name", "layers", "parameters"), [
    ("resnet8", 8, 78_042), ("resnet14", 14, 175_258), ("resnet20", 20, 272_474),
])  # fmt: skip
def test_depth_and_size(name: str, layers: int, parameters: int) -> None:
    network = NETWORKS[name]()
    spatial = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(spatial) + 1 == layers
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_three_stages_at_any_size() -> None:
    network = resnet8(classes=7, channels=1).eval()
    assert network(torch.randn(2, 1, 16, 16)).shape == (2, 7)
    assert network(torch.randn(3, 1, 28, 32)).shape == (3, 7)


def test_restart_gives_the_start_that_the_seed_gives() -> None:
    torch.manual_seed(5)
    first = resnet8()
    trained = copy.deepcopy(first)
    for parameter in trained.parameters():
        parameter.data.add_(1)
    torch.manual_seed(5)
    restart(trained)
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, trained.get_parameter(name)), name
