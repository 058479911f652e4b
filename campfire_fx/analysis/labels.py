"""Channel labels: the identity of every removable channel, and which of them live or die together.

A *label* is a whole number. An activation is described by a float64 tensor of its own shape that holds, at
each position, the label of the channel found there (float64 so that any torch kernel can move labels about;
whole numbers are exact in it up to 2**53). Labels that meet in one operation are joined in a union-find forest.

Label 0 (`FIXED`) is reserved for "not removable": joining a label with it pins that label.
Literal zeros need no reserved label: zeros padded onto a channel axis are given fresh labels, like the
output of any producer, so that they can be removed together with the channels they are added to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FIXED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """The labels of one activation or parameter: float64, of the same shape as the tensor described."""

    labels: Tensor

    @property
    def shape(self) -> torch.Size:
        """Shape of the tensor described."""
        return self.labels.shape


def collapse(labels: Tensor) -> Tensor:
    """Narrow every stretched dimension (stride 0) to length 1: the same labels, without the repetition."""
    stride = labels.stride()
    if 0 not in stride:
        return labels
    size = [1 if step == 0 and length else length for length, step in zip(labels.shape, stride, strict=True)]
    return labels.as_strided(size, stride)


def varies(labels: Tensor, dim: int) -> bool:
    """Whether labels (already roots) differ along one dimension."""
    small = collapse(labels)
    if small.shape[dim] <= 1:
        return False
    return not torch.equal(small, small.narrow(dim, 0, 1).expand_as(small))


def lines(labels: Tensor, dim: int) -> Tensor:
    """View labels as (size of `dim`, everything else), stretched dimensions narrowed to one.

    A length-1 dimension that only looks stretched is restored, so the first axis always has the true size.
    """
    size = labels.shape[dim]
    small = collapse(labels).movedim(dim, 0)
    return small.expand(size, *small.shape[1:]).reshape(size, -1)


def concatenated(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Return `torch.cat`; dimensions along which every operand is stretched stay so, and are not written out."""
    first = tensors[0]
    strides = [t.stride() for t in tensors]
    if any(len(stride) != first.ndim for stride in strides):
        return torch.cat(list(tensors), dim)
    along = dim % first.ndim
    whole = [t.shape for t in tensors]
    stretched = {
        d
        for d, size in enumerate(first.shape)
        if d != along and size > 1 and all(stride[d] == 0 for stride in strides) and all(s[d] == size for s in whole)
    }
    if not stretched:
        return torch.cat(list(tensors), along)
    narrow = [[1 if d in stretched else size for d, size in enumerate(shape)] for shape in whole]
    parts = [t.as_strided(size, stride) for t, size, stride in zip(tensors, narrow, strides, strict=True)]
    together = torch.cat(parts, along)
    return together.expand([first.shape[d] if d in stretched else size for d, size in enumerate(together.shape)])


def broadcast_shape(*shapes: Sequence[int]) -> torch.Size:
    """Return `torch.broadcast_shapes`, by numpy, whose code for it is ten times as fast."""
    return torch.Size(np.broadcast_shapes(*(tuple(shape) for shape in shapes)))


def not_zero(values: Tensor) -> Tensor:
    """Return `values != 0`, by numpy where it can hold them, whose code for it is ten times as fast."""
    if values.device.type == "cpu" and values.dtype in (torch.float16, torch.float32, torch.float64):
        return torch.from_numpy(values.numpy() != 0)
    return values != 0


def any_along(mask: Tensor, dim: int) -> Tensor:
    """Return `mask.any(dim)` of a bool tensor, by numpy, whose code for it is ten times as fast."""
    return torch.from_numpy(mask.numpy().any(dim))
