"""Constant channels taken out of norms that measure them: exact, smaller, and only where it can be and pays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from campfire_fx import ShrinkError, SlimModel, shrink
from campfire_fx.analysis.norm_readers import representatives, substitution
from campfire_fx.export import export
from tests.assertions import Snapshot, assert_same_function, assert_shapes, assert_untouched, parameters
from tests.nets.case import conv, named
from tests.random_zeros import random_zeros, randomise

X, OTHER = torch.randn(2, 3, 12, 12).double(), torch.randn(3, 3, 15, 9).double()


class Mixer(nn.Module):
    """A residual stream whose branches select space with a depthwise layer, normalise, and mix."""

    def __init__(self, width: int = 8, *, between: nn.Module | None = None) -> None:
        super().__init__()
        self.stem, self.space = conv(3, width), conv(width, width, 5, groups=width, bias=True)
        self.norm, self.wide, self.back = nn.LayerNorm(width), nn.Linear(width, 12), nn.Linear(12, width)
        self.between, self.head = nn.Identity() if between is None else between, nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.between(self.norm(self.space(x).permute(0, 2, 3, 1)))
        x = x + self.back(F.gelu(self.wide(y))).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


def dead(layer: Any, *filters: int, shift: float | None = None) -> None:
    """Zero filters of a layer, and give their biases one value where asked to."""
    with torch.no_grad():
        layer.weight[list(filters)] = 0
        if shift is not None:
            layer.bias[list(filters)] = shift


def shrunk(model: nn.Module, wish: str = "always", **options: Any) -> SlimModel:
    """Shrink, and compare outputs at two sizes."""
    before = Snapshot.of(model)
    slim = shrink(model, X, compensate=wish, verify=False, **options)
    assert_same_function(model, slim, (X,), (OTHER,))
    assert_untouched(model, before)
    return slim


def actions(slim: SlimModel) -> list[str]:
    return [repair.node for repair in slim.plan.repairs if repair.action == "norm compensated"]


def test_channels_that_are_read_are_made_of_two_others() -> None:
    """Each kept one has a constant of its own; the depthwise layer before the norm loses the channels too."""
    model = randomise(Mixer().double())
    dead(model.space, 0, 2, 3, 6, 7)
    slim = shrunk(model)
    assert_shapes(slim, {"stem.weight": (8, 3, 3, 3), "space.weight": (5, 1, 5, 5), "norm.weight": (5,),
                         "wide.weight": (12, 5), "back.weight": (8, 12)})  # fmt: skip
    assert actions(slim) == ["norm"]


def test_equal_constants_need_one_representative() -> None:
    model = randomise(Mixer().double())
    dead(model.space, 0, 2, 3, 6, 7, shift=0.25)
    assert_shapes(shrunk(model), {"space.weight": (4, 1, 5, 5), "wide.weight": (12, 4)})


def test_without_affine_parameters_and_with_a_bias_to_fold_into() -> None:
    model = randomise(Mixer().double())
    model.norm, model.wide = nn.LayerNorm(8, elementwise_affine=False), nn.Linear(8, 12, bias=False).double()
    dead(model.space, 1, 4, 5)
    assert_shapes(shrunk(model), {"space.weight": (7, 1, 5, 5), "wide.weight": (12, 7), "wide.bias": None})


@pytest.mark.parametrize("between", [nn.ReLU(), nn.Sigmoid()])
def test_behind_a_function_that_is_not_linear_only_what_is_not_needed_goes(between: nn.Module) -> None:
    model = randomise(Mixer(between=between).double())
    dead(model.space, 0, 2, 3, 6)
    with torch.no_grad():
        model.wide.weight[:, [0, 1]] = 0  # 1 is no constant
        model.norm.weight[[2, 4]] = 0  # 4 is none
    slim = shrunk(model)
    # 0 is not read and 2 becomes a number; 4 must be measured, and is a number behind the norm
    assert_shapes(slim, {"space.weight": (6, 1, 5, 5), "wide.weight": (12, 6)})


def _pyramid(groups: int) -> Any:
    layers = {"a": conv(3, 12), "norm": nn.GroupNorm(groups, 12), "act": nn.ReLU(), "b": conv(12, 6, 1)}
    return randomise(named(**layers, c=conv(6, 4)).double())


def test_groups_lose_equal_numbers_and_one_of_constants_goes_whole() -> None:
    model = _pyramid(3)
    dead(model.a, 0, 1, 4, 8, 9, 10, 11)
    with torch.no_grad():
        model.b.weight[:, [0, 1, 4]] = 0
    slim = shrunk(model)
    assert_shapes(slim, {"a.weight": (6, 3, 3, 3), "norm.weight": (6,), "b.weight": (6, 6, 1, 1)})


def test_groups_of_constants_alone_leave_the_norm_a_layer() -> None:
    model = _pyramid(3)
    dead(model.a, 4, 5, 6, 7)
    slim = shrunk(model)
    assert_shapes(slim, {"a.weight": (8, 3, 3, 3), "norm.weight": (8,), "b.weight": (6, 8, 1, 1)})
    norm: Any = slim.get_submodule("norm")
    assert (type(norm), norm.num_groups, norm.num_channels) == (nn.GroupNorm, 2, 8) and not actions(slim)


def test_groups_of_constants_that_padding_would_keep_leave_an_ordinary_norm() -> None:
    """Behind padding a constant must stay, and with it its group, unless it is part of the shift."""
    model = _pyramid(3)
    model.b = conv(12, 6).double()
    dead(model.a, 4, 5, 6, 7)
    with torch.no_grad():
        model.norm.bias[:] = torch.arange(1.0, 13)
    slim = shrunk(model)
    assert_shapes(slim, {"a.weight": (8, 3, 3, 3), "b.weight": (6, 9, 3, 3)})
    assert slim.graph.find_nodes(op="call_function", target=F.group_norm)


class Functional(nn.Module):
    """A norm called as a function in two places, on the same parameters; the readers are four convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(3, 8)
        self.scale, self.shift = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
        self.c, self.d = nn.Conv2d(8, 4, 2, 2), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        def norm(y: Tensor) -> Tensor:
            return F.layer_norm(y.permute(0, 2, 3, 1), (8,), self.scale, self.shift).permute(0, 3, 1, 2)

        return self.c(norm(self.a(x))).mean((2, 3)) + self.d(norm(self.b(x))).mean((2, 3))


def test_functions_on_shared_parameters() -> None:
    model: Any = randomise(Functional().double())
    dead(model.a, 0, 1, 2)
    dead(model.b, 1, 2, 5)
    slim = shrunk(model)
    assert len(actions(slim)) == 2
    assert parameters(slim) < parameters(model)


class Chain(nn.Module):
    """A norm behind a norm, both read by one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n, self.m, self.b = conv(3, 8), nn.GroupNorm(1, 8), nn.GroupNorm(1, 8), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.n(self.a(x))
        return self.b(torch.cat([y, self.m(y * 2)], 1))


def test_norms_in_a_chain() -> None:
    model: Any = randomise(Chain().double())
    dead(model.a, 0, 1, 2)
    with torch.no_grad():
        model.n.weight[[0, 1, 2]] = 0
        model.n.bias[1] = 0
        model.b.weight[:, 8] = 0
    assert parameters(shrunk(model)) < parameters(model)


@given(st.integers(0, 9999), st.integers(0, 3), st.booleans())
def test_random_networks_keep_their_function(seed: int, groups: int, reads: bool) -> None:
    torch.manual_seed(seed)
    if groups:
        model: Any = _pyramid((1, 2, 4)[groups - 1])
    else:
        model = Mixer(between=None if reads else nn.Hardswish()).double()
    random_zeros(randomise(model, seed, positive=bool(seed % 2)), seed, linears=True)
    with torch.no_grad():
        model.norm.weight[torch.rand(model.norm.weight.shape) < 0.3] = 0
    slim = shrunk(model)
    assert parameters(slim) <= parameters(shrunk(model, "never"))


def test_only_where_it_pays() -> None:
    """A narrow block is faster as it is; in a wide one the products saved are worth more."""
    narrow, wide = randomise(Mixer().double()), randomise(Mixer(96).double())
    wide.wide, wide.back = nn.Linear(96, 768).double(), nn.Linear(768, 96).double()
    for model in (narrow, wide):
        dead(model.space, *range(len(model.space.weight) // 2))
    assert actions(shrunk(narrow, "auto")) == [] and actions(shrunk(wide, "auto")) == ["norm"]
    assert actions(shrunk(wide, "never")) == []
    with pytest.raises(ShrinkError, match='compensate="maybe" is not known. Use "auto", "always" or "never".'):
        shrink(narrow, X, compensate="maybe")


def test_not_while_an_optimizer_goes_on_and_not_in_two_graphs() -> None:
    model = randomise(Mixer().double())
    dead(model.space, 0, 2, 3, 6, 7)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert actions(shrunk(model, optimizer=optimizer)) == []

    class Drops(Mixer):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(F.dropout(x, 0.5, self.training))

    drops = randomise(Drops().double()).eval()
    dead(drops.space, 0, 2, 3, 6, 7)
    assert actions(shrunk(drops)) == []


@pytest.mark.parametrize("suffix", ["onnx", "pt2", "pt"])
def test_it_can_be_exported(suffix: str, tmp_path: Any) -> None:
    model, small = randomise(Mixer()), X.float()
    dead(model.space, 0, 2, 3, 6, 7)
    slim = shrink(model, small, compensate="always")
    assert actions(slim) == ["norm"] and slim.verification.difference < 1e-5  # type: ignore[union-attr]
    assert export(slim, tmp_path / f"slim.{suffix}").difference < 1e-5


def test_representatives_are_far_apart_and_no_scale_is_small() -> None:
    constant = torch.tensor([0.0, 1.0, 0.5, -4.0, 0.25]).double()
    scale = torch.tensor([1.0, 2.0, -1.0, 1e-9, 0.0]).double()
    movable = torch.tensor([True, True, True, False, True])
    kept = representatives(constant, scale, movable)
    assert kept is not None and kept.tolist() == [0, 1]
    bias = torch.tensor([0.3, -0.2, 0.7, 0.0, 0.9]).double()
    change = substitution(constant, scale, bias, torch.tensor([2, 4]), kept)
    for mean, deviation in ((0.3, 2.0), (-1.0, 0.5)):
        y = (constant - mean) / deviation * scale + bias
        torch.testing.assert_close(change.factors @ y[kept] + change.shifts, y[[2, 4]])
    assert representatives(constant, scale, torch.tensor([True, True, True, True, True])) is not None
    far = torch.tensor([0.0, 1e-3, 1.0, 0.0, 0.0]).double()
    assert representatives(far, torch.tensor([1.0, 1.0, 0.05, 0, 0]).double(), movable) is None


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("written", ["later", "before", "elsewhere"])
def test_what_is_written_over_after_the_norm_is_not_taken_for_what_the_norm_reads(groups: int, written: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm = nn.Conv2d(3, 8, 1), nn.GroupNorm(groups, 8)
            self.b, self.c = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            x = x.relu_() if written == "before" else x
            y = self.norm(x)
            return self.b(y) + self.c(x.relu_() if written == "later" else x.relu())

    model = Net().double().eval()
    gone = torch.tensor([1, 2, 4, 6])
    with torch.no_grad():
        model.a.weight[gone], model.norm.weight[gone] = 0, 0
        model.a.bias[gone] = torch.tensor([-1.0, -2.0, 0.5, -0.3]).double()
        model.norm.bias.normal_()
    slim = shrink(model, X, compensate="always")
    assert_same_function(model, slim, (X,), (OTHER,))
    assert slim.a.out_channels == (8 if written == "later" else 4)  # type: ignore[union-attr]
