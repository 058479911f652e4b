"""A branch that is wholly constant becomes its value, or nothing where that is zero."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from campfire_fx import shrink
from tests.assertions import assert_same_output
from tests.nets.case import conv
from tests.random_zeros import randomise

X = torch.randn(2, 3, 6, 6, dtype=torch.float64)


class Branch(nn.Module):
    """x -> join(a(x), b(x)), where b is dead but for its bias."""

    def __init__(self, join: Callable[..., Tensor], bias: float) -> None:
        super().__init__()
        self.a, self.b, self.out, self.join = conv(3, 4), nn.Conv2d(3, 4, 3, padding=1), conv(4, 2), join
        randomise(self)
        with torch.no_grad():
            self.b.weight.zero_()
            self.b.bias.fill_(bias)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.join(self.a(x), self.b(x)))


@pytest.mark.parametrize("join", [operator.add, operator.sub, operator.mul, torch.add, torch.sub, torch.mul])
@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_exact_without_the_branch(join: Any, bias: float) -> None:
    model = Branch(join, bias).double()
    slim = shrink(model, X)
    assert_same_output(model, slim, (X,))
    assert_same_output(model, slim, (torch.randn(1, 3, 9, 8, dtype=torch.float64),))
    assert "b" not in dict(slim.named_children())


def test_a_sum_with_zero_leaves_nothing() -> None:
    slim: Any = shrink(Branch(operator.add, 0.0).double(), X)
    assert [n.target for n in slim.graph.nodes if n.op != "placeholder"][:-1] == ["a", "out"]
    assert not dict(slim.named_buffers())


def test_a_branch_that_others_read_stays() -> None:
    class Twice(Branch):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            y = self.b(x)
            return self.out(self.a(x) + y), y

    model = Twice(operator.add, 0.5).double()
    slim = shrink(model, X)
    assert_same_output(model, slim, (X,))
    assert "b" in dict(slim.named_children())


@pytest.mark.parametrize("join", [operator.iadd, operator.isub, operator.imul])
@pytest.mark.parametrize("dead_first", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_what_is_written_in_place_is_read_under_another_name(join: Any, dead_first: bool, relu: bool) -> None:
    class Viewed(Branch):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            first, second = (self.b(x), self.a(x)) if dead_first else (self.a(x), self.b(x))
            seen = first.flatten(2)
            if relu:
                first = first.relu_()
            return self.out(self.join(first, second)), seen.mean(2)

    model = Viewed(join, 0.7).double()
    assert_same_output(model, shrink(model, X, verify=False), (X,))


@pytest.mark.parametrize("join", [operator.iadd, operator.isub, operator.imul])
def test_a_branch_joined_in_place_is_folded_too(join: Any) -> None:
    class InPlace(Branch):
        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.join(self.a(x), self.b(x).relu_()))

    model = InPlace(join, 0.7).double()
    slim = shrink(model, X)
    assert_same_output(model, slim, (X,))
    assert_same_output(model, slim, (X + 1,))  # again: the constant is not written to
    assert "b" not in dict(slim.named_children())


def test_a_product_of_lists_is_none_of_tensors() -> None:
    """As code that cuts an image of any rank multiplies them."""

    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = conv(3, 4), conv(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            cuts = [slice(None)] * x.ndim
            cuts[2] = slice(0, 3)
            return self.last(x[tuple(cuts)])

    model = Cut().double()
    with torch.no_grad():
        model.first.weight[1] = model.last.weight[:, 2] = 0
    assert_same_output(model, shrink(model, X), (X,))
