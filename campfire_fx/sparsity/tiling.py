"""Tiles of a weight: the one view that granularities (what dies together) and scopes (what is ranked together) share.

A weight is seen as (K, C, P): filters, channels per filter, positions in a kernel (P = R * S; 1 for linear layers).
A *tile* is a box in it, given by its size along K, C and P; None stands for the whole axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

Tile = tuple[int | None, int | None, int | None]


def tiles(tensor: Tensor, tile: Tile, fill: float) -> Tensor:
    """View (K, C, P) as (a, b, c, members): a grid of tiles and the members of each.

    Where a tile does not divide an axis, the axis is filled up with `fill`.
    """
    sizes = _sizes(tile, tensor.shape)
    if sizes == (1, 1, 1):
        return tensor.unsqueeze(-1)  # single weights, in every step of some methods
    missing = [-length % size for length, size in zip(tensor.shape, sizes, strict=True)]
    if any(missing):
        tensor = F.pad(tensor, [0, missing[2], 0, missing[1], 0, missing[0]], value=fill)
    k, c, p = sizes
    grid = [length // size for length, size in zip(tensor.shape, sizes, strict=True)]
    boxes = tensor.reshape(grid[0], k, grid[1], c, grid[2], p).permute(0, 2, 4, 1, 3, 5)
    return boxes.reshape(*grid, k * c * p)


def untiles(boxes: Tensor, tile: Tile, shape: Sequence[int]) -> Tensor:
    """Undo `tiles`: (a, b, c, members) back to (K, C, P) = `shape`, what was filled up cut off."""
    k, c, p = _sizes(tile, shape)
    if k == c == p == 1:
        return boxes.squeeze(-1)
    a, b, d, _ = boxes.shape
    full = boxes.reshape(a, b, d, k, c, p).permute(0, 3, 1, 4, 2, 5).reshape(a * k, b * c, d * p)
    return full[: shape[0], : shape[1], : shape[2]]


def _sizes(tile: Tile, shape: Sequence[int]) -> tuple[int, int, int]:
    k, c, p = (length if size is None else size for size, length in zip(tile, shape, strict=True))
    return k, c, p
