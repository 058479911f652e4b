"""Bits of sparse tensors: the smallest of their forms, worked by hand."""

from __future__ import annotations

import pytest
import torch
from accelerator import Accelerator, mask_bits, scattered_bits

MACHINE = Accelerator(tile=36, value_bits=16)  # an offset within a tile takes 6 bits


def kernels(*kept: int) -> torch.Tensor:
    return torch.tensor([[[p < n for p in range(9)] for n in kept]])


@pytest.mark.parametrize(("mask", "bits"), [
    (kernels(9, 9), 18 * 16),  # dense: no index
    (kernels(2, 2), 4 * 16 + 4 * 4),  # the same number in each: an offset of 4 bits
    (kernels(9, 0), 9 * 16 + 2),  # whole kernels: a bit each
    (kernels(0, 0), 0),
    (kernels(5, 4), 9 * 16 + 18),  # anywhere: a bitmask
    (kernels(1, 0), 16 + 6 + 6),  # few: an offset of 6 bits, and the tile's count
], ids=str)  # fmt: skip
def test_forms(mask: torch.Tensor, bits: int) -> None:
    assert mask_bits(mask, MACHINE) == bits


def test_scattered_activations() -> None:
    assert scattered_bits(3600, 1.0, MACHINE) == 3600 * 16
    assert scattered_bits(3600, 0.5, MACHINE) == 1800 * 16 + 3600
    assert scattered_bits(3600, 0.01, MACHINE) == pytest.approx(36 * 16 + 36 * 6 + 100 * 6)
