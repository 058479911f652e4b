"""How far tensors are from each other, and what no comparison may let pass."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from campfire_fx.base.comparison import gap_and_scale


@pytest.mark.parametrize(
    ("expected", "got", "answer"),
    [
        (torch.tensor([1.0, -4.0]), torch.tensor([1.5, -4.0]), (0.5, 4.0)),
        (torch.tensor([True, False]), torch.tensor([True, True]), (1.0, 1.0)),
        (torch.tensor([3]), torch.tensor([5]), (2.0, 3.0)),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 5j]), (3.0, 2.0)),
        (torch.tensor([1 + 2j]).conj(), torch.tensor([1 + 2j]), (4.0, 2.0)),
        (torch.zeros(0, 3), torch.zeros(0, 3), (0.0, 0.0)),
    ],
)
def test_the_largest_gap_and_the_largest_number(expected: Tensor, got: Tensor, answer: tuple[float, float]) -> None:
    assert gap_and_scale(expected, got) == answer


@pytest.mark.parametrize("got", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_infinitely_far(got: float) -> None:
    assert gap_and_scale(torch.ones(2), torch.tensor([1.0, got])) == (math.inf, 1.0)


def test_complex_numbers_are_infinitely_far_from_real_ones() -> None:
    assert gap_and_scale(torch.ones(2), torch.ones(2) + 0j)[0] == math.inf
