"""Constants are numbers of whole channels: values that differ within one prove nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from campfire_fx.analysis.labels import collapse

NAN = float("nan")


def stretched_like(labels: Tensor, result: Tensor) -> Tensor:
    """Return values as stretched as labels are, NaN where a channel is not uniform."""
    strides = labels.stride()
    small = collapse(result.expand(labels.shape))
    fixed = collapse(labels)
    if fixed.numel() == 1 and not fixed.any():
        return _along_one(small).expand(labels.shape)
    for dim, size in enumerate(small.shape):
        if strides[dim] == 0 and size > 1:
            small = _uniform(small, dim)
    return small.expand(labels.shape)


def _along_one(small: Tensor) -> Tensor:
    """Leave constants where the labels are fixed, and do not tell channels apart, if they differ along one dimension.

    Then that is where channels lie.
    """
    wide = [dim for dim, size in enumerate(small.shape) if size > 1]
    varied = [dim for dim in wide if _differs(small, small.narrow(dim, 0, 1))]
    for dim in wide:
        if varied != [dim]:
            small = _uniform(small, dim)
    return small


def _differs(values: Tensor, first: Tensor) -> bool:
    return not bool(((values == first) | (values.isnan() & first.isnan())).all())


def _uniform(small: Tensor, dim: int) -> Tensor:
    """Return what all positions along a dimension share, with length 1 there, NaN where they differ."""
    first = small.narrow(dim, 0, 1)
    return first.masked_fill(~(small == first).all(dim, keepdim=True), NAN)


def agreed(value: Tensor, place: Tensor, count: int) -> Tensor:
    """Return per group the value that all members share, else NaN."""
    low = torch.full((count,), float("inf"), dtype=value.dtype).scatter_reduce(0, place, value, "amin")
    high = torch.full((count,), -float("inf"), dtype=value.dtype).scatter_reduce(0, place, value, "amax")
    return low.masked_fill(low != high, NAN)
