"""Branches that meet in a maximum, a mean or a sum: `torch.max` of two tensors, and reductions of a stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import campfire_fx
from tests.nets.movement import FilledByABuffer

FORMS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "function": lambda net, x: torch.max(x, net.least),
    "method": lambda net, x: x.min(net.least),
    "name": lambda net, x: torch.min(x, other=net.least),
    "two activations": lambda net, x: torch.max(x, x * 0.25),
    "named field": lambda net, x: x.max(2, keepdim=True).values + torch.sort(x, dim=2, descending=True).values,
    "number": lambda net, x: torch.max(x, torch.tensor(0.25, dtype=x.dtype)),
}


class Rectified(nn.Module):
    """Two convolutions, the first with three dead filters, and one of the forms between them."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = FORMS[form]
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)
        self.least = nn.Parameter(torch.randn(1, 8, 1, 1))
        with torch.no_grad():
            self.a.weight[2:5].zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.form(self, self.a(x)))


@pytest.mark.parametrize("form", FORMS)
def test_dead_channels_go(form: str) -> None:
    model, x = Rectified(form).double().eval(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    slim = campfire_fx.shrink(model, x)
    assert slim.a.out_channels == 5
    torch.testing.assert_close(slim(x), model(x), rtol=1e-12, atol=1e-12)


class Filled(FilledByABuffer):
    """What shapes alone do not tell, with names that tensors and records of them share."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(self.b(self.a(x)))
        x = x * x.new_full((1, 1, x.shape[2], x.shape[3]), self.strides[1])
        return x.max(2).values + x.min() + x.sign().sum(2)


BRANCHES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int]] = {
    "mean of a stack": (lambda y, z: torch.stack([y, z]).mean(0), 5),
    "largest of a stack": (lambda y, z: torch.stack([y, z], 1).max(1).values, 5),
    "sum over rows of both": (lambda y, z: torch.cat([y, z], 2).sum(2, keepdim=True), 8),
    "mean over rows of both": (lambda y, z: torch.cat([y, z], 2).mean(2, keepdim=True), 8),
}


@pytest.mark.parametrize("form", BRANCHES)
def test_branches_that_are_stacked_are_told_from_rows_of_an_image(form: str) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.c, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(BRANCHES[form][0](self.a(x), self.c(x)))

    model = Two().double().eval()
    with torch.no_grad():
        model.a.weight[2:5].zero_()
        model.c.weight[2:5].zero_()
    slim = campfire_fx.shrink(model, torch.randn(1, 3, 16, 16, dtype=torch.float64))
    assert slim.a.out_channels == slim.c.out_channels == BRANCHES[form][1]
    x = torch.randn(2, 3, 9, 16, dtype=torch.float64)
    torch.testing.assert_close(slim(x), model(x), rtol=1e-12, atol=1e-12)


def test_a_name_of_a_part_is_no_question_about_a_tensor() -> None:
    model, x = Filled().double().eval(), torch.randn(2, 3, 9, 8, dtype=torch.float64)
    with torch.no_grad():
        model.a.weight[2:5].zero_()
    slim = campfire_fx.shrink(model, x)
    assert slim.a.out_channels == 5
    torch.testing.assert_close(slim(x), model(x), rtol=1e-12, atol=1e-12)
