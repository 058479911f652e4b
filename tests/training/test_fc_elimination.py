"""FC weights fed by a dead convolution channel go where that is exact, and stay where it is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from campfire_fx import SlimModel, SparseModel, sparsify

DEAD = (1, 4)
IMAGE = torch.randn(2, 3, 6, 6)


class Tail(nn.Module):
    """Convolution, norm, ReLU, flattened into a linear layer; with `residual` the input is added to what it reads."""

    def __init__(self, residual: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(24, 5)
        self.residual = residual
        for tensor in (self.bn.weight, self.bn.bias, self.bn.running_mean):
            assert tensor is not None
            nn.init.uniform_(tensor, 0.5, 1.5)  # so that a dead filter is a constant well away from zero

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        y = self.bn(self.conv2(x))
        return self.fc(self.pool(torch.relu(y + x if self.residual else y)).flatten(1))


def shrunk(*, residual: bool = False, **wishes: Any) -> tuple[SparseModel, SlimModel]:
    """Kill all kernels of two filters of the last convolution, and nothing else."""
    model = sparsify(Tail(residual), "ck", overrides={"*": 0, "conv2": 0.1}, example_inputs=IMAGE, **wishes).eval()
    mask = torch.ones(6, 6, 3, 3, dtype=torch.bool)
    mask[list(DEAD)] = False
    model.set_mask("conv2", mask)
    return model, model.shrink()


@pytest.mark.parametrize("dead_norm", ["zero", "keep"])
def test_the_weights_that_a_dead_channel_feeds_go_and_the_output_stays(dead_norm: str) -> None:
    model, slim = shrunk(dead_norm=dead_norm)
    x = torch.randn(4, 3, 6, 6)
    assert slim.get_submodule("fc").weight.shape == (5, 16)  # 4 of 6 channels, 2 x 2 positions each
    assert slim.get_submodule("conv2").weight.shape == (4, 6, 3, 3)
    assert (slim(x) - model(x)).abs().max() < 1e-5 * model(x).abs().max()
    same = torch.equal(slim.get_submodule("fc").bias, model.get_submodule("fc").bias)
    assert same == (dead_norm == "zero"), "what BatchNorm makes of a dead filter is folded into the bias"


def test_taking_the_channel_as_zero_would_not_be_exact() -> None:
    """What the paper says of a dead channel, word for word: its activation is zero. BatchNorm's shift says no."""
    model, _ = shrunk(dead_norm="keep")
    x = torch.randn(4, 3, 6, 6)
    before = model(x)
    fc = model.get_submodule("fc")
    assert isinstance(fc.weight, Tensor)
    with torch.no_grad():
        fc.weight.view(5, 6, 4)[:, list(DEAD)] = 0
    assert (model(x) - before).abs().max() > 0.01 * before.abs().max()


def test_where_another_branch_writes_the_channel_every_weight_stays() -> None:
    model, slim = shrunk(residual=True)
    x = torch.randn(4, 3, 6, 6)
    assert slim.get_submodule("fc").weight.shape == (5, 24)
    assert (slim(x) - model(x)).abs().max() < 1e-5 * model(x).abs().max()
