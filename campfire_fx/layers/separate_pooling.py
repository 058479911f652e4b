"""Max pooling as maxima of shifted rows, then of shifted columns: the same numbers, and faster in NCHW."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SeparateMaxPool(nn.Module):
    """Max pooling one axis of space after the other, the last one last: R + S - 2 maxima in the place of R * S - 1.

    Each maximum runs over whole tensors, which torch does with vectors; its own pooling compares number by number where
    channels lie apart, as in NCHW. Exact, NaN as well: a maximum is not rounded.

    Attributes:
        axes: size, stride, padding and dilation for each axis of space.
    """

    def __init__(self, axes: tuple[tuple[int, int, int, int], ...]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        """Pool x (..., *space)."""
        for dim, (size, stride, padding, dilation) in enumerate(self.axes, -len(self.axes)):
            if padding:
                x = F.pad(x, [*[0] * (2 * (-dim - 1)), padding, padding], value=float("-inf"))
            steps = (x.shape[dim] - dilation * (size - 1) - 1) // stride + 1
            rest: tuple[Any, ...] = (slice(None),) * (-dim - 1)
            shifted = [
                x[(..., slice(start, start + (steps - 1) * stride + 1, stride), *rest)]
                for start in range(0, dilation * size, dilation)
            ]
            x = shifted[0]
            for other in shifted[1:]:
                x = torch.maximum(x, other)
        return x.contiguous()

    def extra_repr(self) -> str:
        """Say what it pools."""
        return ", ".join(f"size={size}, stride={s}, padding={p}, dilation={d}" for size, s, p, d in self.axes)


def separate_pooling(pool: Any, dims: int) -> SeparateMaxPool | str:
    """Return a max pooling layer of torch's, over so many dimensions, axis by axis; or why that cannot be."""
    if pool.ceil_mode:
        return "it rounds sizes up"
    if pool.return_indices:
        return "it also gives places"
    given = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    values = [value if isinstance(value, (tuple, list)) else (value,) * dims for value in given]
    return SeparateMaxPool(tuple(zip(*values, strict=True)))
