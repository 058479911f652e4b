"""Functions of torch written out in others, while torch.export runs the model.

torch's own form of them asks for the numbers behind sizes, so that a program with them in it has the example's sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class WrittenOut(TorchFunctionMode):
    """While it is entered, these functions run as they are written here; to rounding they do the same."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the function, or what stands for it."""
        return _FUNCTIONS.get(func, func)(*args, **(kwargs or {}))


def _affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """Return where an affine map takes the points of a grid.

    Args:
        theta: (N, d, d + 1).
        size: of the output, (N, C) and d sizes of space.
        align_corners: whether -1 and 1 are the centres of the outer points, or their outer edges.

    Returns:
        (N, *space, d), the coordinate of the last axis first.
    """
    space = tuple(size[2:])
    points = torch.meshgrid(*(_line(count, theta, bool(align_corners)) for count in space), indexing="ij")
    base = torch.stack((*reversed(points), torch.ones_like(points[0])), -1)
    flat = base.reshape(1, -1, len(space) + 1)
    return torch.matmul(flat, theta.transpose(1, 2)).reshape(theta.shape[0], *space, len(space))


def _line(count: int, like: Tensor, align_corners: bool) -> Tensor:
    """Return the coordinates of so many points on [-1, 1]."""
    places = torch.arange(count, dtype=like.dtype, device=like.device)
    if not align_corners:
        return (2 * places + 1) / count - 1
    return 2 * places / (count - 1) - 1 if count > 1 else places


_FUNCTIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {F.affine_grid: _affine_grid}
