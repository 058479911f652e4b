"""Time several ways to do a thing against one another: in turns, so that a busy machine slows all of them."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Contender:
    """What is timed: `run` on a fresh result of `prepare`, which is not."""

    run: Callable[[Any], object]
    prepare: Callable[[], Any] = _nothing


def in_turns(
    contenders: Mapping[str, Contender],
    repeats: int,
    *,
    synchronise: Callable[[], object] = _nothing,
    enough: float = math.inf,
) -> dict[str, list[float]]:
    """Return the seconds of each contender in each of `repeats` rounds, after one that warms up.

    The order within a round turns. A contender that takes longer than `enough` seconds for once is not run again:
    its one time, of the warm-up, stands.
    """
    names = list(contenders)
    times: dict[str, list[float]] = {name: [] for name in names}
    slow: set[str] = set()
    for index in range(repeats + 1):
        start = index % len(names)
        for name in names[start:] + names[:start]:
            if name in slow:
                continue
            took = _once(contenders[name], synchronise)
            if not index and took > enough:
                slow.add(name)
            if index or name in slow:
                times[name].append(took)
    return times


def _once(contender: Contender, synchronise: Callable[[], object]) -> float:
    given = contender.prepare()
    gc.collect()  # what the last one left behind is not this one's to clear away
    start = time.perf_counter()
    result = contender.run(given)
    synchronise()
    took = time.perf_counter() - start
    del result, given
    return took
