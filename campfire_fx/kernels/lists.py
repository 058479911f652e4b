"""The lists that the inner loop reads, made of packed weights for one shape of tile."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from campfire_fx.base.errors import KernelError
from campfire_fx.kernels.packed import Packed
from campfire_fx.kernels.tiles import Load, Tile

Ints = npt.NDArray[np.int64]

_FURTHEST = 2**16  # offsets are 16-bit


class Taps(NamedTuple):
    """Where the weights that are not zero stand: filter, channel of the input, row and column of the kernel."""

    filters: Ints
    channels: Ints
    rows: Ints
    columns: Ints

    @staticmethod
    def of(packed: Packed) -> Taps:
        """Return those of packed weights, in their order."""
        filters, channels, rows, columns = np.unravel_index(packed.positions.numpy(), packed.shape)
        group = filters // max(1, packed.shape[0] // packed.geometry.groups)
        return Taps(filters, channels + group * packed.shape[1], rows, columns)


class Planes(NamedTuple):
    """The rows of a packed plane: those of one phase of the stride follow each other."""

    steps: Ints  # of each row: the input's row, from the tile's first
    starts: Ints  # of each row of the kernel: the plane's row that the tile's first output reads

    @staticmethod
    def of(packed: Packed, rows: int) -> Planes:
        """Return those of a tile with so many rows of outputs."""
        stride, dilation = packed.geometry.stride[0], packed.geometry.dilation[0]
        reach = np.arange(packed.shape[2]) * dilation
        phases, down = reach % stride, reach // stride
        steps: list[int] = []
        starts = np.zeros(len(reach), np.int64)
        for phase in np.unique(phases):
            starts[phases == phase] = len(steps) + down[phases == phase]
            steps += [int(i * stride + phase) for i in range(rows + down[phases == phase].max())]
        return Planes(np.array(steps, np.int64) - packed.geometry.padding[0], starts)


class Lists(NamedTuple):
    """What `Work` in sparse.cpp says of them."""

    row_steps: npt.NDArray[np.int32]
    planes: npt.NDArray[np.int32]
    block_planes: npt.NDArray[np.int32]
    block_runs: npt.NDArray[np.int32]
    run_filters: npt.NDArray[np.int32]
    run_offsets: npt.NDArray[np.int32]
    run_weights: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.uint16]
    weights: npt.NDArray[np.float32]


def load_of(packed: Packed) -> Load:
    """Return what every tile has to do with these weights."""
    taps = Taps.of(packed)
    planes = len(np.unique(taps.channels * packed.shape[3] + taps.columns))
    reach = (packed.shape[2] - 1) * packed.geometry.dilation[0]
    return Load(planes, len(taps.filters), packed.shape[0], reach)


def share_in_threes(packed: Packed) -> float:
    """Return which share of the weights stands in columns of a kernel with three or more of them."""
    taps = Taps.of(packed)
    columns = (taps.filters * packed.channels + taps.channels) * packed.shape[3] + taps.columns
    counts = np.bincount(columns)
    return float(counts[counts >= 3].sum() / max(1, counts.sum()))


def lists_of(packed: Packed, tile: Tile, memory: int) -> Lists:
    """Make the lists; a block of planes takes at most `memory` floats, or is one plane.

    Raises:
        KernelError: one plane alone is further than an offset reaches.
    """
    taps, rows = Taps.of(packed), Planes.of(packed, tile.rows)
    plane = len(rows.steps) * tile.vectors
    if plane > _FURTHEST:
        raise KernelError(
            f"Cannot compute a convolution with a dilation of {packed.geometry.dilation[0]}: a tile of it reads "
            f"{len(rows.steps)} rows, and the most is {_FURTHEST // tile.vectors}. Compute it with torch."
        )
    columns = packed.shape[3]
    keys, places = np.unique(taps.channels * columns + taps.columns, return_inverse=True)
    held = max(1, min(memory // (plane * tile.lanes), _FURTHEST // plane))  # planes of a block
    blocks = max(1, -(-len(keys) // held))
    offsets = places % held * plane + rows.starts[taps.rows] * tile.vectors
    runs = places // held * packed.shape[0] + taps.filters
    order = np.argsort(runs * _FURTHEST + offsets, kind="stable")
    places_of_three = _in_threes(runs[order], offsets[order]) if tile.vectors == 1 else np.full(len(order), -1)
    order_in_run = np.lexsort((places_of_three < 0, runs[order]))  # stable
    order, places_of_three = order[order_in_run], places_of_three[order_in_run]
    named, weights = _with_empty_filters(*np.unique(runs, return_counts=True), packed.shape[0])
    kept = places_of_three <= 0
    counts = weights - np.bincount(np.searchsorted(named, runs[order][~kept]), minlength=len(named))
    shift = keys % columns * packed.geometry.dilation[1] - packed.geometry.padding[1]
    return Lists(
        row_steps=rows.steps.astype(np.int32),
        planes=np.stack([keys // columns, shift], 1).astype(np.int32),
        block_planes=np.minimum(np.arange(blocks + 1) * held, len(keys)).astype(np.int32),
        block_runs=np.searchsorted(named, np.arange(blocks + 1) * packed.shape[0]).astype(np.int32),
        run_filters=_flagged(named % packed.shape[0]).astype(np.int32),
        run_offsets=np.concatenate([[0], counts.cumsum()]).astype(np.int32),
        run_weights=np.concatenate([[0], weights.cumsum()]).astype(np.int32),
        offsets=offsets[order][kept].astype(np.uint16),
        weights=packed.values.numpy()[order],
    )


def _in_threes(runs: Ints, offsets: Ints) -> Ints:
    """Return the place, 0 to 2, of each entry in three of one run whose vectors follow each other; -1 if in none."""
    begins = np.ones(len(runs), bool)
    begins[1:] = (runs[1:] != runs[:-1]) | (offsets[1:] != offsets[:-1] + 1)
    starts = np.flatnonzero(begins)
    chain = begins.cumsum() - 1
    place = np.arange(len(runs)) - starts[chain]
    lengths = np.bincount(chain, minlength=len(starts))[chain]
    return np.where(place < lengths // 3 * 3, place % 3, -1)


def _with_empty_filters(runs: Ints, counts: Ints, filters: int) -> tuple[Ints, Ints]:
    """Add a run without entries to the first block for each filter that has no other."""
    missing = np.setdiff1d(np.arange(filters), runs % filters)
    at = np.searchsorted(runs, missing)
    return np.insert(runs, at, missing), np.insert(counts, at, 0)


def _flagged(filters: Ints) -> Ints:
    """Return 4 * filter + 2 if it is the filter's last run + 1 if its first, for runs in the order of blocks."""
    first, last = np.zeros(len(filters), np.int64), np.zeros(len(filters), np.int64)
    first[np.unique(filters, return_index=True)[1]] = 1
    last[len(filters) - 1 - np.unique(filters[::-1], return_index=True)[1]] = 1
    return 4 * filters + 2 * last + first
