"""Max pooling as maxima of shifted rows, then of shifted columns: the same numbers, and faster in NCHW."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.base.compat import is_traced


class SeparateMaxPool(nn.Module):
    """Max pooling one axis of space after the other: R + S - 2 maxima in the place of R * S - 1.

    Each maximum runs over whole tensors, which torch does with vectors; its own pooling compares number by number where
    channels lie apart, as in NCHW. Exact, NaN as well: a maximum is not rounded. In a graph it is torch's.

    Attributes:
        pool: the layer of torch's.
        axes: size, stride, padding and dilation for each axis of space.
    """

    def __init__(self, pool: nn.Module, axes: tuple[tuple[int, int, int, int], ...]) -> None:
        super().__init__()
        self.pool, self.axes = pool, axes

    def forward(self, x: Tensor) -> Tensor:
        """Pool x (..., *space)."""
        if is_traced(x):
            pooled: Tensor = self.pool(x)
            return pooled
        for dim, window in enumerate(self.axes, -len(self.axes)):
            x = _along(x, dim, *window)
        return x


def _along(x: Tensor, dim: int, size: int, stride: int, padding: int, dilation: int) -> Tensor:
    """Pool along one dimension, counted from the last: what lies in the padding is no candidate."""
    length = x.shape[dim]
    outputs = (length + 2 * padding - dilation * (size - 1) - 1) // stride + 1
    shape = [*x.shape]
    shape[dim] = outputs
    y = x.new_full(shape, float("-inf"))
    for start in range(-padding, dilation * size - padding, dilation):
        first = max(0, -(start // stride))  # the first output that this tap reaches, and how many from there on
        count = min(outputs, (length - 1 - start) // stride + 1) - first
        if count > 0:
            at = start + first * stride
            reached = y.narrow(dim, first, count)
            places: Any = (..., slice(at, at + (count - 1) * stride + 1, stride), *(slice(None),) * (-dim - 1))
            torch.maximum(reached, x[places], out=reached)
    return y


def separate_pooling(pool: Any, dims: int) -> SeparateMaxPool | str:
    """Return a max pooling layer of torch's, over so many dimensions, axis by axis; or why that cannot be."""
    if pool.ceil_mode:
        return "it rounds sizes up"
    if pool.return_indices:
        return "it also gives places"
    given = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    values = [value if isinstance(value, (tuple, list)) else (value,) * dims for value in given]
    return SeparateMaxPool(pool, tuple(zip(*values, strict=True)))
