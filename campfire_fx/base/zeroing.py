"""Zeroing by selection: what a mask takes away becomes 0, whatever it was. Infinity times 0 would be NaN.

Floats are multiplied as the whole numbers that their bits spell: by 1 they stay as they are, by 0 they become 0. That
takes as long as a product of floats, a fifth of `torch.where` on a CPU, and works for lists of tensors at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from campfire_fx.base.compat import foreach_mul_

_WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def selector(mask: Tensor, like: Tensor) -> Tensor:
    """Return a mask, bool or 0 and 1, as the whole numbers that `zero_` multiplies by; no copy where it is that.

    Args:
        mask: of any shape that broadcasts to that of `like`.
        like: floats, real or complex.
    """
    return mask.to(_WHOLE[like.dtype.itemsize // (2 if like.is_complex() else 1)])


def zero_(tensor: Tensor, kept: Tensor) -> None:
    """Zero a tensor in place where `kept`, from `selector`, is 0."""
    zero_all_([tensor], [kept])


def zero_all_(tensors: Sequence[Tensor], kept: Sequence[Tensor]) -> None:
    """Zero tensors in place, all in one call: see `zero_`."""
    pairs = [_bits(tensor, one) for tensor, one in zip(tensors, kept, strict=True)]
    if pairs:
        foreach_mul_([bits for bits, _ in pairs], [one for _, one in pairs])


def selected(tensor: Tensor, mask: Tensor) -> Tensor:
    """Return a tensor with zeros where a bool mask of its shape is False; its gradient is not tracked."""
    if tensor.is_complex():
        return tensor.masked_fill(~mask, 0)
    return (tensor.view(_WHOLE[tensor.dtype.itemsize]) * mask).view(tensor.dtype)


def _bits(tensor: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    if tensor.is_complex():
        tensor, kept = torch.view_as_real(tensor), kept.unsqueeze(-1)
    return tensor.view(_WHOLE[tensor.dtype.itemsize]), kept
