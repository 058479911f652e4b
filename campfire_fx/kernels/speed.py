"""How fast the processor multiplies and adds vectors: measured once, when kernels are first called."""

from __future__ import annotations

import ctypes
import time

_ROUNDS, _TRIES = 10_000, 12
_SUMS = 12  # multiply-adds of a round

_MEASURED: dict[int, dict[int, float]] = {}


def vector_times(library: ctypes.CDLL) -> dict[int, float]:
    """Return the seconds of one multiply-add of vectors, by their floats: the widest vectors, and those half as wide.

    Many processors take as long for the widest as for two of half the width.
    """
    handle = library._handle
    if handle not in _MEASURED:
        widest = ctypes.c_int32.in_dll(library, "campfire_lanes").value
        library.campfire_multiply_add.argtypes = (ctypes.c_int32, ctypes.c_int64, ctypes.c_float)
        widths = {widest: 0} if widest == 4 else {widest // 2: 1, widest: 0}
        _MEASURED[handle] = {floats: _least_time(library, half) for floats, half in widths.items()}
    return _MEASURED[handle]


def peak(library: ctypes.CDLL) -> float:
    """Return the most multiplications and additions in a second that one core does."""
    return max(2 * floats / seconds for floats, seconds in vector_times(library).items())


def _least_time(library: ctypes.CDLL, half: int) -> float:
    """Return the least of several tries, which other work on the machine only makes longer."""
    taken = []
    for _ in range(_TRIES):
        start = time.perf_counter()
        library.campfire_multiply_add(half, _ROUNDS, 0.5)
        taken.append(time.perf_counter() - start)
    return min(taken) / (_ROUNDS * _SUMS)
