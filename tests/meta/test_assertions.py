"""Every assertion fails on wrong answers: a small error, a wrong shape, a changed model, a network that is mute."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.assertions import (
    Snapshot,
    assert_not_larger,
    assert_same_function,
    assert_same_output,
    assert_says_something,
    assert_shapes,
    assert_shares_no_memory,
    assert_smaller,
    assert_untouched,
    difference,
    reproducible,
)
from tests.nets.case import block, conv, named
from tests.random_zeros import calibrate, outputs_of, random_zeros, randomise, zero_filters

X = (torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),)


class Net(nn.Module):
    """A network whose output is off by `error` times its largest value, or only at one size."""

    def __init__(self, error: float = 0.0, only_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.error, self.only_at = conv(3, 4), error, only_at

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        wrong = self.only_at is None or x.shape[-1] == self.only_at
        return y + self.error * y.abs().max() * (y == y.max()) if wrong else y


def test_an_error_above_the_tolerance_is_found_in_each_precision() -> None:
    right = Net().double()
    assert_same_output(right, Net(5e-11).double(), X)
    with pytest.raises(AssertionError, match="differ by"):
        assert_same_output(right, Net(2e-10).double(), X)
    with pytest.raises(AssertionError, match="differ by"):
        assert_same_output(right.float(), Net(2e-5), (X[0].float(),))
    with pytest.raises(AssertionError, match="float64"):
        assert_same_function(Net(), Net(1e-9), X)


def test_an_error_at_one_size_only_is_found() -> None:
    other = (torch.randn(3, 3, 11, 11, dtype=torch.float64),)
    assert_same_function(Net(), Net(1e-3, only_at=11), X)
    with pytest.raises(AssertionError, match="differ by"):
        assert_same_function(Net(), Net(1e-3, only_at=11), X, other)


@pytest.mark.parametrize(
    "got",
    [torch.zeros(2, 3), torch.zeros(3, 2, dtype=torch.float64), torch.full((3, 2), math.nan), torch.full((3, 2), 1.0)],
    ids=["shape", "dtype", "nan", "value"],
)
def test_another_shape_dtype_or_value_is_a_difference(got: Tensor) -> None:
    with pytest.raises(AssertionError):
        assert difference([torch.full((3, 2), 2.0)], [got]) <= 1e-5


def test_outputs_that_prove_nothing_are_refused() -> None:
    with pytest.raises(AssertionError, match="proves nothing"):
        difference([torch.tensor(math.inf)], [torch.tensor(math.inf)])
    with pytest.raises(AssertionError, match="constant"):
        assert_says_something(nn.Sequential(conv(3, 4), Scaled(0.0)), (X[0].float(),))
    with pytest.raises(AssertionError, match="does not change"):
        assert_says_something(Deaf(), X)


class Scaled(nn.Module):
    """Multiplies by a number."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x * self.by


class Deaf(nn.Module):
    """Answers without listening."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.arange(8.0)


def test_shapes_sizes_and_memory_are_compared() -> None:
    net = named(a=conv(3, 4), b=conv(4, 2))
    assert_shapes(net, {"a.weight": (4, 3, 3, 3), "c.weight": None})
    for wrong in ({"a.weight": (3, 3, 3, 3)}, {"a.weight": None}, {"c.weight": (1,)}):
        with pytest.raises(AssertionError, match="is "):
            assert_shapes(net, wrong)
    with pytest.raises(AssertionError, match="parameters are left"):
        assert_smaller(net, net)
    with pytest.raises(AssertionError, match="parameters are left"):
        assert_not_larger(net, named(a=conv(3, 5)), allowance=-100)
    with pytest.raises(AssertionError, match="share memory"):
        assert_shares_no_memory(net, named(a=net.get_submodule("a")))


def _set(path: str, value: Any) -> Callable[[nn.Module], None]:
    def change(net: nn.Module) -> None:
        owner, _, name = path.rpartition(".")
        setattr(net.get_submodule(owner), name, value)

    return change


CHANGES: dict[str, Callable[[Any], Any]] = {
    "one bit of a weight": lambda net: net[0].weight.data.view(-1)[0:1].nextafter_(torch.tensor(9.0)),
    "a statistic": lambda net: net[1].running_mean.add_(1e-7),
    "a mode": lambda net: net[1].eval(),
    "a parameter replaced by its equal": lambda net: _set("0.weight", nn.Parameter(net[0].weight.detach().clone()))(
        net
    ),
    "a count": _set("0.out_channels", 3),
    "a hook": lambda net: net[2].register_forward_hook(lambda *_: None),
    "a frozen parameter": lambda net: net[0].weight.requires_grad_(requires_grad=False),
    "a gradient": lambda net: net(torch.randn(2, 3, 8, 8)).sum().backward(),
    "a module replaced": lambda net: net.__setitem__(2, nn.ReLU()),
    "a module added": lambda net: net.append(nn.ReLU()),
    "an attribute": _set("2.note", "seen"),
    "a class": lambda net: setattr(net[2], "__class__", nn.ReLU6),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_to_the_model_given_is_found(change: Callable[[Any], Any]) -> None:
    net = block(3, 4)
    snapshot = Snapshot.of(net)
    assert_untouched(net, snapshot)
    change(net)
    with pytest.raises(AssertionError):
        assert_untouched(net, snapshot)


def test_a_failure_says_how_to_see_it_again() -> None:
    with pytest.raises(AssertionError, match=r"boom[\s\S]*print\(1\)"), reproducible("print(1)"):
        raise ValueError("boom")


def test_random_zeros_are_as_many_as_promised() -> None:
    net = random_zeros(named(a=conv(30, 40), b=conv(40, 60, groups=2), c=nn.ConvTranspose2d(60, 20, 3, groups=2)), 1)
    dead = [(net.a.weight != 0).flatten(1).sum(1) == 0, (net.b.weight != 0).flatten(1).sum(1) == 0]
    assert [int(d.sum()) for d in dead] == [20, 30]
    living = (net.a.weight[~dead[0]].flatten(2) != 0).any(-1)
    assert 0.62 < living.double().mean() < 0.71, "a third of the other kernels must be zero"
    up = net.c.weight.unflatten(0, (2, 30)).transpose(1, 2)  # (groups, outputs, inputs, ...)
    assert int((up.flatten(2) == 0).all(-1).sum()) == 10


@pytest.mark.parametrize("layer", [conv(6, 8, groups=2), nn.ConvTranspose2d(6, 8, 3, groups=2), nn.Linear(6, 8)])
def test_a_filter_set_to_zero_gives_the_bias_and_no_other_does(layer: Any) -> None:
    zero_filters(layer, (1, 6))
    x = torch.randn(2, 6) if isinstance(layer, nn.Linear) else torch.randn(2, 6, 5, 5)
    y = layer(x).transpose(0, 1).flatten(1)
    assert [int(k) for k in (y.std(1) < 1e-6).nonzero()] == [1, 6]


def test_randomised_norms_make_dead_channels_positive_if_asked() -> None:
    net = randomise(nn.BatchNorm2d(50), 3, positive=True)
    constant = net.eval()(torch.zeros(1, 50, 2, 2))
    assert float(constant.min()) >= 0.5 and float(constant.max()) <= 1.5 + 1e-5
    assert float(randomise(nn.BatchNorm2d(50), 3).eval()(torch.zeros(1, 50, 2, 2)).min()) < 0


def test_calibration_keeps_a_deep_network_sane() -> None:
    layers = [layer for _ in range(60) for layer in (conv(8, 8, bias=True), nn.ReLU())]
    deep = random_zeros(randomise(nn.Sequential(conv(3, 8), *layers), 0), 0)
    with torch.no_grad():
        for layer in (m for m in deep if isinstance(m, nn.Conv2d)):
            layer.weight.mul_(9)
    wild = copy.deepcopy(deep)
    x = torch.randn(2, 3, 16, 16)
    calibrate(deep, x)
    assert 0.01 < float(deep(x).std()) < 100, "calibrated activations must neither vanish nor explode"
    assert float(wild(x).std()) > 1e6, "without calibration they would not be sane"
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in deep.modules())


def test_biases_that_folding_may_make_are_counted() -> None:
    assert outputs_of(named(a=conv(3, 4), b=conv(4, 5, bias=True), c=nn.Linear(2, 3, bias=False))) == 7
