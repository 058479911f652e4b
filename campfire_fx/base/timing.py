"""What takes how long: calls timed in turns, so that a busy machine slows all alike; and what memory traffic costs."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence

import torch

MACS_PER_MOVE = 32
"""Multiply-adds that take as long as moving one float through memory; about 20 to 60 on CPUs and GPUs of today."""

_LEAST, _MOST = 5, 15  # rounds
_ENOUGH = 1.0  # seconds


def least_times(first: Callable[[], object], second: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return the fewest milliseconds of each in 15 rounds; in fewer, but 5, where these take more than a second."""
    one, other = least_times_of((first, second), device)
    return one, other


def least_times_of(runs: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    """Return the fewest milliseconds of each of several: see `least_times`."""
    return [1e3 * min(taken) for taken in in_turns(runs, device, least=_LEAST, most=_MOST, enough=_ENOUGH)]


def in_turns(
    runs: Sequence[Callable[[], object]],
    device: torch.device,
    *,
    least: int,
    most: int,
    enough: float = math.inf,
    warm: int = 2,
    clock: Callable[[], float] | None = None,
) -> list[list[float]]:
    """Return the seconds of every call: for each of `runs` those of its rounds; in each round all run once, in turn.

    Every other round goes backwards, so that none has always the same one before it.

    Args:
        runs: what is timed.
        device: on which it runs.
        least: rounds that are timed at least.
        most: rounds that are timed at most.
        enough: seconds after which no more than the least are begun.
        warm: rounds before these, not timed, in which caches and allocators warm up.
        clock: gives the seconds; None: what `once` says.
    """
    times: list[list[float]] = [[] for _ in runs]
    begun = time.perf_counter()
    for turn in range(warm + most):
        if turn >= warm + least and time.perf_counter() - begun > enough:
            break
        order = list(zip(runs, times, strict=True))
        for run, taken in order[::-1] if turn % 2 else order:
            took = once(run, device, clock)
            if turn >= warm:
                taken.append(took)
    return times


def once(run: Callable[[], object], device: torch.device, clock: Callable[[], float] | None = None) -> float:
    """Return the seconds of one call, a GPU's work included.

    Of what one thread computes it is the processor time: while other processes have the core, the call does not run.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1 and sys.platform != "win32"  # too coarse there
    clock = clock or (time.thread_time if alone else time.perf_counter)
    _wait(device)
    start = clock()
    run()
    _wait(device)
    return clock() - start


def _wait(device: torch.device) -> None:
    """Wait for what was started on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
