"""How the outputs of a convolution are cut into tiles, each of which one call of the inner loop computes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

# What things take, in half cycles; measured on one processor. Only ratios count, and they need not be exact.
_LATENCY = 8.0  # of a sum: so long until the next weight can be added to it
_ENTRY = 1.0  # reading an offset and a weight
_PACK = 6.0  # copying one vector
_RUN = 40.0  # going from one filter to the next
_SUM = 4.0  # reading and writing one vector of sums
_FINISH = 14.0  # writing one vector of outputs


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
    entries: int  # weights that are not zero
    filters: int
    extra_rows: int  # that it reads beyond its own


def choose(
    images: int, size: tuple[int, int], load: Load, lanes: Mapping[int, float], *, most: int, memory: int
) -> Tile:
    """Return the tile with which an output (height, width) takes the least time, by a simple estimate.

    Args:
        images: in the batch.
        size: of the output.
        load: what a tile has to do.
        lanes: floats of the vectors that the processor computes with, and what a multiply-add takes in half cycles.
        most: vectors whose sums fit into the processor's registers.
        memory: floats that the packed planes may take.
    """

    def estimate(tile: Tile) -> float:
        held = tile.rows * tile.vectors
        plane = (tile.rows + load.extra_rows) * tile.vectors
        passes = max(1.0, load.planes * plane * tile.lanes / memory)
        adding = load.entries * (max(held * lanes[tile.lanes], _LATENCY) + _ENTRY)
        copying = load.planes * plane * _PACK + load.filters * held * _FINISH
        waiting = load.filters * passes * (_RUN + held * _SUM)
        return math.ceil(tile.blocks(images, size) / tile.shared) * (adding + copying * tile.shared + waiting)

    return min(every_tile(size, lanes, most), key=estimate)


def every_tile(size: tuple[int, int], lanes: Iterable[int], most: int) -> Iterator[Tile]:
    """Yield all that hold something of the output in each of their vectors."""
    for width, shared in itertools.product(lanes, (1, 2, 4)):
        piece = width // shared
        for rows, vectors in itertools.product(range(1, most + 1), repeat=2):
            fits = rows * vectors <= most and rows <= size[0] and (vectors - 1) * piece < size[1]
            if fits and (piece >= 4 or shared == 1):
                yield Tile(width, rows, vectors, shared)
