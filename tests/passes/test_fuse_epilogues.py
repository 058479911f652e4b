"""Fused epilogues: the numbers stay the same, and nothing is fused that others read or write."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import campfire_fx
from campfire_fx.capture import trace
from campfire_fx.layers.fused import ACTIVATE, FusedLayer
from campfire_fx.passes.fuse_epilogues import fuse_epilogues
from campfire_fx.passes.runner import apply
from tests.random_nets import OPERATIONS, RandomNet
from tests.random_zeros import randomise

X = torch.randn(2, 4, 6, 5, dtype=torch.float64)
KINDS = {"relu": nn.ReLU(), "relu6": nn.ReLU6(True), "silu": nn.SiLU(), "hardswish": nn.Hardswish(True)}


def fused(net: nn.Module, *inputs: Tensor) -> nn.Module:
    """Return the fused model; it gives the same numbers, at another batch too."""
    net = net.double().eval()
    inputs = inputs or (X,)
    captured = trace(copy.deepcopy(net), inputs)
    for island in captured.islands:
        for number in range(len(island.module.graph_variants)):
            island.module.train_alike(number)
    apply(captured, fuse_epilogues)
    for given_inputs in (inputs, tuple(torch.cat((one, one.flip(0))) for one in inputs)):
        with torch.no_grad():
            expected, got = (model(*(one.clone() for one in given_inputs)) for model in (net, captured.module))
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    return captured.module


def found(net: nn.Module, *inputs: Tensor) -> dict[str, str]:
    """Return the activation of each fused layer by its path, "+" before it where something is added."""
    model = fused(net, *inputs)
    calls = {str(node.target): node for node in model.graph.find_nodes(op="call_module")}
    layers = {path: module for path, module in model.named_modules() if isinstance(module, FusedLayer)}
    return {path: "+" * (len(calls[path].args) - 1) + layer.activation for path, layer in layers.items()}


class Block(nn.Module):
    """Two convolutions and what `end` does with their outputs."""

    def __init__(self, end: object) -> None:
        super().__init__()
        self.first, self.second, self.end = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1), end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.first(x), self.second(x), x)


def add_twice(one: Tensor, other: Tensor, x: Tensor) -> Tensor:
    one += other
    return F.relu(one + x)


def write_between(one: Tensor, other: Tensor, x: Tensor) -> Tensor:
    x.mul_(2)
    return one + x


def write_into_residual(one: Tensor, other: Tensor, x: Tensor) -> Tensor:
    y = x * 1
    view = y[:, :2]
    torch.add(y, other, out=y)
    return (y + one)[:, :2] * view


def read_sum_again(one: Tensor, other: Tensor, x: Tensor) -> Tensor:
    total = one + other
    return torch.relu(total) * total


ENDS = {
    "residual": (lambda one, other, x: torch.relu(one + x) * other, {"first": "+relu"}),
    "both are layers": (lambda one, other, x: torch.relu(one + other), {"second": "+relu"}),
    "two sums": (add_twice, {"second": "+"}),
    "each its own": (lambda one, other, x: F.relu6(one) + F.silu(other), {"first": "relu6", "second": "silu"}),
    "method": (lambda one, other, x: one.relu() - other, {"first": "relu"}),
    "the input is written between": (write_between, {}),
    "the residual is written": (write_into_residual, {}),
    "the sum is read again": (read_sum_again, {"second": "+"}),
    "twice itself": (lambda one, other, x: one + one, {}),
    "scaled": (lambda one, other, x: torch.add(one, other, alpha=2), {}),
    "a number": (lambda one, other, x: torch.relu(one + 1), {}),
    "broadcast": (lambda one, other, x: one + other[:, :1], {}),
    "broadcast the other way": (lambda one, other, x: one.mean((2, 3), keepdim=True) + other, {}),
    "other activations": (lambda one, other, x: torch.tanh(one) * F.gelu(other), {}),
    "read by two": (lambda one, other, x: torch.relu(one) + one, {}),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_is_fused(name: str) -> None:
    end, expected = ENDS[name]
    assert found(Block(end)) == expected


@pytest.mark.parametrize("name", ACTIVATE)
def test_every_activation(name: str) -> None:
    assert found(nn.Sequential(nn.Conv2d(4, 5, 3), KINDS[name])) == {"0": name}
    assert found(nn.Sequential(nn.Linear(5, 3), KINDS[name])) == {"0": name}
    y = torch.tensor([float("nan"), float("inf"), -4.0, 2.0, 8.0])
    torch.testing.assert_close(ACTIVATE[name](y.clone()), KINDS[name](y.clone()), equal_nan=True)


def test_a_layer_that_is_called_twice_is_left() -> None:
    layer = nn.Conv2d(4, 4, 1)
    assert found(nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU())) == {}


def test_a_residual_of_another_size_at_run_time_is_added_as_torch_does() -> None:
    layer, x, row = FusedLayer(nn.Conv2d(4, 3, 1), "relu"), torch.randn(2, 4, 5, 5), torch.randn(1, 3, 1, 1)
    assert torch.equal(layer(x, row), torch.relu(layer.layer(x) + row))
    small = torch.randn(2, 4, 1, 1)
    assert layer(small, torch.randn(2, 3, 5, 5)).shape == (2, 3, 5, 5)


def test_whole_networks() -> None:
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    counts = {}
    for name in ("resnet18", "mobilenet_v2"):
        net = randomise(getattr(torchvision.models, name)().double(), 0)
        counts[name] = len(found(campfire_fx.shrink(net, image, fold_norms=True, verify=False), image))
    assert counts == {"resnet18": 17, "mobilenet_v2": 45}


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), *[st.integers(0, 30)] * 3), min_size=1, max_size=8))
def test_random_networks(steps: list[tuple[str, int, int, int]]) -> None:
    net = RandomNet(steps)
    fused(randomise(net.double(), 0), *net.example())
    assert net.program
