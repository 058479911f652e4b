"""How far one tensor is from another: what every proof of equality measures."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gap_and_scale(expected: Tensor, got: Tensor) -> tuple[float, float]:
    """Return max |a - b| and max |a| of two tensors of one shape, in float64; (0, 0) where they are empty.

    A gap that is NaN is infinite: comparisons with NaN are false, and would let it pass for none. So is that of a real
    tensor from a complex one.
    """
    if expected.is_complex() != got.is_complex():
        return math.inf, 0.0
    if not expected.numel():
        return 0.0, 0.0
    a, b = _real(expected), _real(got)
    gap, scale = float((a - b).abs().max()), float(a.abs().max())
    return math.inf if math.isnan(gap) else gap, scale


def _real(tensor: Tensor) -> Tensor:
    return (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).double()
