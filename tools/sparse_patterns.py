"""Random masks of the shape that each regime leaves, for benchmarks: True stays."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Shape = tuple[int, int, int, int]
"""Of a weight: K, C, R, S."""


def unstructured(shape: Shape, left: float) -> Tensor:
    """Each weight by itself."""
    return torch.rand(shape) < left


def ck(shape: Shape, left: float) -> Tensor:
    """Whole kernels."""
    return (torch.rand(*shape[:2], 1, 1) < left).expand(shape)


def window(shape: Shape, left: float) -> Tensor:
    """As many weights in every kernel: two of nine, where a fifth is left."""
    return _of_each_kernel(shape, max(1, round(left * shape[2] * shape[3])))


def combined(shape: Shape, left: float) -> Tensor:
    """About four of nine weights in the kernels that are left."""
    taps = max(1, round(shape[2] * shape[3] * 4 / 9))
    return _of_each_kernel(shape, taps) & ck(shape, left * shape[2] * shape[3] / taps)


def blocks(shape: Shape, left: float) -> Tensor:
    """Blocks of four filters that follow each other, by one weight of each."""
    return (torch.rand(-(-shape[0] // 4), *shape[1:]) < left).repeat_interleave(4, 0)[: shape[0]]


PATTERNS: dict[str, Callable[[Shape, float], Tensor]] = {
    "combined": combined,
    "ck": ck,
    "window": window,
    "unstructured": unstructured,
    "1x4": blocks,
}


def of_pixelwise(name: str) -> bool:
    """Whether a pattern is one of its own where the kernel has one weight."""
    return name in {"unstructured", "1x4"}


def _of_each_kernel(shape: Shape, count: int) -> Tensor:
    scores = torch.rand(*shape[:2], shape[2] * shape[3])
    return (scores >= scores.topk(count, -1)[0][..., -1:]).view(shape)
