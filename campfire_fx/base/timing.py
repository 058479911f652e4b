"""What is faster: two ways to compute the same, timed in turns; and what memory traffic costs."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

MACS_PER_MOVE = 32
"""Multiply-adds that take as long as moving one float through memory; about 20 to 60 on CPUs and GPUs of today."""

_WARM, _LEAST, _MOST = 2, 5, 15  # rounds
_ENOUGH = 1.0  # seconds


def least_times(first: Callable[[], object], second: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return the fewest milliseconds of each in 15 rounds; in fewer, but 5, where these take more than a second."""
    times: tuple[list[float], list[float]] = ([], [])
    begun = time.perf_counter()
    for turn in range(_WARM + _MOST):
        if turn >= _WARM + _LEAST and time.perf_counter() - begun > _ENOUGH:
            break
        for run, taken in zip((first, second), times, strict=True):
            took = once(run, device)
            if turn >= _WARM:
                taken.append(took * 1e3)
    return min(times[0]), min(times[1])


def once(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one call, a GPU's work included."""
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    """Wait for what was started on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
