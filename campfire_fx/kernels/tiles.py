"""How the outputs of a convolution are cut into tiles, each of which one call of the inner loop computes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

# What things take, in the time of one multiply-add of a vector. Only ratios count, and they need not be exact.
_LEAST = 8  # vectors of a tile: fewer wait for each other's sums
_ENTRY = 2.0  # reading an offset and a weight
_PACK = 3.0  # copying one vector
_SUM = 2.0  # reading and writing one vector of sums


class Tile(NamedTuple):
    """The outputs that are computed together: `rows` x `vectors` x `lanes`, of `shared` blocks of images."""

    lanes: int
    rows: int
    vectors: int
    shared: int

    @property
    def columns(self) -> int:
        """Columns of the output in one block."""
        return self.vectors * self.lanes // self.shared

    def blocks(self, images: int, size: tuple[int, int]) -> int:
        """Blocks of all images of an output (height, width)."""
        return images * math.ceil(size[0] / self.rows) * math.ceil(size[1] / self.columns)


class Load(NamedTuple):
    """What one tile has to do, whatever its shape."""

    planes: int  # that it reads
    entries: int
    runs: int  # filters
    extra_rows: int  # that it reads beyond its own
    copies: float  # rows of a plane for each row of the tile: strides


def choose(images: int, size: tuple[int, int], load: Load, lanes: Sequence[int], *, most: int, memory: int) -> Tile:
    """Return the tile with which an output (height, width) takes the least time, by a simple estimate.

    Args:
        images: in the batch.
        size: of the output.
        load: what a tile has to do.
        lanes: floats of a vector, those that the processor computes with.
        most: vectors whose sums fit into the processor's registers.
        memory: floats that the packed planes may take.
    """
    tiles = [
        Tile(width, rows, vectors, shared)
        for width in lanes
        for rows, vectors in itertools.product(range(1, min(size[0], most) + 1), range(1, most + 1))
        if rows * vectors <= most
        for shared in (1, 2, 4)
        if width // shared >= 4 and (vectors - 1) * width // shared < size[1]
    ]
    return min(tiles, key=lambda tile: _estimate(tile, images, size, load, memory=memory))


def _estimate(tile: Tile, images: int, size: tuple[int, int], load: Load, *, memory: int) -> float:
    """Return the time of all tiles."""
    count = math.ceil(tile.blocks(images, size) / tile.shared)
    held = tile.rows * tile.vectors
    plane = (tile.rows + load.extra_rows) * tile.vectors
    passes = max(1.0, load.planes * plane * tile.lanes / memory)
    adding = load.entries * (max(held, _LEAST) + _ENTRY)
    packing = load.planes * plane * _PACK * tile.shared
    waiting = load.runs * passes * held * _SUM
    return count * tile.lanes * (adding + packing + waiting)
