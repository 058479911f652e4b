"""How the times of two models compare: the ratio of calls in turns, and an interval that says how sure it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_TAIL = 0.025  # on each side of a 95 % interval
_COPIES = 0.02  # two copies of one model differ by so much however long they are timed


@dataclass(frozen=True, slots=True)
class TimeRatio:
    """The time of a model over that of another, called in turns: the median over rounds and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """Whether a difference could be measured: the interval does not hold 1."""
        return not self.low <= 1 <= self.high

    @property
    def times_as_fast(self) -> TimeRatio:
        """How many times as fast the model is as the other."""
        return TimeRatio(1 / self.value, 1 / self.high, 1 / self.low)


def time_ratio(seconds: Sequence[float], reference: Sequence[float]) -> TimeRatio | None:
    """Compare the times of two models round by round; None of fewer than six rounds, which say too little.

    The interval is that of the median by ranks: it supposes no distribution, and a few calls that were interrupted do
    not move it. It is wider by what copies of one model differ in, since their memory lies in other places.

    Args:
        seconds: of each round's call of one model.
        reference: of each round's call of the other, in the same order.

    Source: Thompson, "On confidence ranges for the median and other expectation distributions", 1936.
    """
    if min(reference, default=0.0) <= 0:  # the clock is too coarse
        return None
    ratios = sorted(one / other for one, other in zip(seconds, reference, strict=True))
    count, rank, tail = len(ratios), 0, 0.0
    while (tail := tail + math.comb(count, rank) / 2**count) <= _TAIL:
        rank += 1
    if rank == 0:
        return None
    return TimeRatio(statistics.median(ratios), ratios[rank - 1] * (1 - _COPIES), ratios[-rank] * (1 + _COPIES))
