"""`Work` of sparse.cpp: the one argument of a call, and what of it stays the same from call to call."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from campfire_fx.kernels.lists import Lists, lists_of, load_of, share_in_threes
from campfire_fx.kernels.packed import Packed
from campfire_fx.kernels.speed import vector_times
from campfire_fx.kernels.tiles import Tile, choose

_MEMORY = 6 * 1024  # floats of packed planes: most of a first cache of 32 KB
_LARGER = 10  # times as much where weights in threes share what they load: then the second cache is fast enough
_LINE = 16  # floats of a cache line


class Work(ctypes.Structure):
    """The structure, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "bias", "residual", "y", "scratch")),
        ("x_floats", ctypes.c_int64),
        ("x_strides", ctypes.c_int64 * 4),
        ("y_strides", ctypes.c_int64 * 4),
        *((name, ctypes.c_int32) for name in ("images", "height", "width", "out_height", "out_width")),
        *((name, ctypes.c_int32) for name in ("stride_height", "stride_width", "activation")),
        *((name, ctypes.c_int32) for name in ("rows", "vectors", "lanes", "shared")),
        *((name, ctypes.c_int32) for name in ("plane_rows", "blocks", "chunks", "threads", "tasks")),
        *((name, ctypes.c_void_p) for name in (*Lists._fields, "chunk_filters")),
        *((name, ctypes.c_int64) for name in ("buffer_floats", "sum_floats", "scratch_floats")),
        ("parallel", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("next_task", "next_thread")),
    )


class Shape(NamedTuple):
    """What a call computes: sizes, and the strides of its tensors in floats, in the order N, C or K, H, W."""

    images: int
    size: tuple[int, int]
    out_size: tuple[int, int]
    x_strides: tuple[int, ...]
    y_strides: tuple[int, ...]
    threads: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A `Work` without its tensors; `arrays` holds the memory that it points to."""

    work: Work
    arrays: tuple[npt.NDArray[np.generic], ...]
    scratch: int  # floats that a call needs

    @staticmethod
    def of(packed: Packed, shape: Shape, tile: Tile, lists: Lists) -> Plan:
        """Put it together."""
        tiles = -(-tile.blocks(shape.images, shape.out_size) // tile.shared)
        chunks = _chunks(packed, shape.threads, tiles)
        buffer = int(np.diff(lists.block_planes).max()) * len(lists.row_steps) * tile.vectors * tile.lanes
        sums = int(np.diff(chunks).max()) * tile.rows * tile.vectors * tile.lanes
        scratch = _whole_lines(buffer) + _whole_lines(sums) + _whole_lines(2 * tile.shared * len(lists.row_steps))
        arrays = {**lists._asdict(), "chunk_filters": chunks}
        work = Work(
            **{name: array.ctypes.data for name, array in arrays.items()},
            **tile._asdict(),
            x_strides=(ctypes.c_int64 * 4)(*shape.x_strides),
            y_strides=(ctypes.c_int64 * 4)(*shape.y_strides),
            images=shape.images, height=shape.size[0], width=shape.size[1],
            out_height=shape.out_size[0], out_width=shape.out_size[1],
            stride_height=packed.geometry.stride[0], stride_width=packed.geometry.stride[1],
            x_floats=1 + sum((n - 1) * step for n, step in zip(
                (shape.images, packed.channels, *shape.size), shape.x_strides, strict=True)),
            plane_rows=len(lists.row_steps), blocks=len(lists.block_planes) - 1,
            chunks=len(chunks) - 1, threads=shape.threads, tasks=tiles * (len(chunks) - 1),
            buffer_floats=_whole_lines(buffer), sum_floats=_whole_lines(sums), scratch_floats=scratch,
        )  # fmt: skip
        return Plan(work, tuple(arrays.values()), scratch * shape.threads + _LINE)


def tile_for(packed: Packed, shape: Shape, library: ctypes.CDLL) -> Tile:
    """Return the tile for a call."""
    times = vector_times(library)
    costs = {lanes: float(round(seconds / min(times.values()))) for lanes, seconds in times.items()}
    most = 16 if ctypes.c_int32.in_dll(library, "campfire_registers").value == 32 else 12
    return choose(shape.images, shape.out_size, load_of(packed), costs, most=most, memory=_memory_for(packed))


def lists_for(packed: Packed, tile: Tile) -> Lists:
    """Return the lists for a tile."""
    return lists_of(packed, tile, _memory_for(packed))


def _memory_for(packed: Packed) -> int:
    """Return the floats that the planes of one block may take."""
    return _MEMORY * (_LARGER if share_in_threes(packed) > 0.5 else 1)


def _chunks(packed: Packed, threads: int, tasks: int) -> npt.NDArray[np.int32]:
    """Return where chunks of filters begin, and the end: as many as give each thread two tasks, of equal work."""
    filters = packed.shape[0]
    count = 1 if threads == 1 else min(filters, max(1, -(-2 * threads // tasks)))
    per_filter = packed.positions.numel() // filters // 8 + 1  # what a filter costs beside its weights
    owners = packed.positions.numpy() // math.prod(packed.shape[1:])
    work = (np.bincount(owners, minlength=filters) + per_filter).cumsum()
    bounds = np.searchsorted(work, work[-1] * np.arange(1, count) / count) + 1
    return np.unique([0, *bounds, filters]).astype(np.int32)


def _whole_lines(floats: int) -> int:
    return -(-floats // _LINE) * _LINE
