"""Zeroing by selection: whatever is taken away becomes 0, and what stays keeps every bit."""

from __future__ import annotations

import math

import pytest
import torch

from campfire_fx.base.zeroing import selected, selector, zero_, zero_all_

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128]
ODD = [1.5, -2.0, math.inf, -math.inf, math.nan, 0.0, -0.0, 1e-7]
MASK = torch.tensor([True, False] * len(ODD))


def values(dtype: torch.dtype) -> torch.Tensor:
    return torch.tensor([number for number in ODD for _ in range(2)]).to(dtype)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).contiguous().view(torch.uint8)


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_stays_keeps_its_bits_and_the_rest_is_zero(dtype: torch.dtype) -> None:
    before, here = values(dtype), values(dtype)
    zero_(here, selector(MASK, here))
    assert torch.equal(bits(here[MASK]), bits(before[MASK]))
    assert not bits(here[~MASK]).any()
    assert torch.equal(bits(selected(before, MASK)), bits(here))


def test_lists_of_several_forms_and_a_mask_that_broadcasts() -> None:
    first = torch.full((4, 3), math.inf)
    second = torch.full((2, 4), math.nan, dtype=torch.float64).t()
    third = torch.full((2, 3, 4, 4), -math.inf).to(memory_format=torch.channels_last)
    keep = torch.tensor([1, 0, 1, 0])
    zero_all_(
        [first, second, third],
        [selector(keep.unsqueeze(1), first), selector(keep.unsqueeze(1), second), selector(keep, third)],
    )
    assert first.isinf().any(1).tolist() == second.isnan().any(1).tolist() == [True, False, True, False]
    assert not third[..., [1, 3]].any() and third[..., [0, 2]].isinf().all()


def test_a_selector_is_made_once() -> None:
    weight = torch.ones(3)
    made = selector(torch.tensor([True, False, True]), weight)
    assert selector(made, weight) is made
    zero_all_([], [])
