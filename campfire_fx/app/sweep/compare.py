"""What a sweep says about one axis: means over all else, and differences between two values, all else being equal."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from campfire_fx.app.sweep.grid import Point
from campfire_fx.app.sweep.results import Finished
from campfire_fx.report.intervals import Interval, of_trainings

Value = Any


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its name, its value at a point, how a value is written, and the point with another value there."""

    name: str
    value: Callable[[Point], Value]
    written: Callable[[Value], str]
    without: Callable[[Point], Point]


def _start(point: Point) -> Value:
    return point.era[0] if point.era else None


def _length(point: Point) -> Value:
    return point.era[1] - point.era[0] if point.era else None


def _drops(value: Value) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) and value else "none"


def _no_start(point: Point) -> Point:
    return replace(point, era=(0, point.era[1] - point.era[0]) if point.era else None)


def _no_length(point: Point) -> Point:
    return replace(point, era=(point.era[0], point.era[0]) if point.era else None)


REGIME = Axis("regime", lambda point: point.regime, str, lambda point: replace(point, regime=""))
SPARSITY = Axis(
    "sparsity", lambda point: point.sparsity, lambda s: f"{100 * s:g} %", lambda point: replace(point, sparsity=0.0)
)
START = Axis("era start", _start, str, _no_start)
LENGTH = Axis("era length", _length, str, _no_length)
RATE = Axis("learning rate", lambda point: point.rate, lambda r: f"{r:g}", lambda point: replace(point, rate=None))
DROPS = Axis("drops", lambda point: point.drops, _drops, lambda point: replace(point, drops=None))
AXES = (REGIME, SPARSITY, START, LENGTH, RATE, DROPS)


@dataclass(frozen=True, slots=True)
class Change:
    """A training held against the dense one of the same seed: accuracy less that of dense, a share."""

    point: Point
    change: float


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over settings and seeds, with its interval over seeds (None of one), and of how many settings it is."""

    value: float
    interval: Interval | None
    settings: int


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two values of an axis, all else being equal: what the second gains over the first, as a share.

    Attributes:
        axis: its name.
        regime: of the settings compared; empty where the regime is what differs.
        first, second: the values.
        gain: mean over settings and seeds, with its interval over seeds.
    """

    axis: str
    regime: str
    first: str
    second: str
    gain: Mean

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        interval = self.gain.interval
        return interval is not None and (interval.low > 0 or interval.high < 0)


def changes_of(found: Sequence[Finished]) -> list[Change]:
    """Return the sparse trainings whose dense one has finished, too."""
    dense = {one.point: one.accuracy for one in found if one.point.regime is None}
    return [
        Change(one.point, one.accuracy - dense[one.point.dense])
        for one in found
        if one.point.regime is not None and one.point.dense in dense
    ]


def values_of(changes: Sequence[Change], axis: Axis) -> list[Value]:
    """Return the values of an axis: sorted, regimes and drops in the order in which they come."""
    values = list(dict.fromkeys(axis.value(one.point) for one in changes))
    return values if axis in (REGIME, DROPS) else sorted(values, key=lambda v: (v is None, v))


def means_by(changes: Sequence[Change], key: Callable[[Point], Hashable]) -> dict[Hashable, Mean]:
    """Return the mean change of each group of points."""
    groups: dict[Hashable, list[Change]] = {}
    for one in changes:
        groups.setdefault(key(one.point), []).append(one)
    return {name: _mean([(one.point, one.change) for one in members]) for name, members in groups.items()}


def _mean(members: Sequence[tuple[Point, float]]) -> Mean:
    by_seed: dict[int, list[float]] = {}
    for point, value in members:
        by_seed.setdefault(point.seed, []).append(value)
    each = [statistics.fmean(values) for values in by_seed.values()]
    settings = len({replace(point, seed=0) for point, _ in members})
    # A seed that has finished fewer settings than another says something else.
    even = len({len(values) for values in by_seed.values()}) == 1
    return Mean(statistics.fmean(each), of_trainings(each) if even else None, settings)


def contrasts(changes: Sequence[Change]) -> list[Contrast]:
    """Hold neighbouring values of each axis against each other, for each regime; and each regime against the others."""
    found = []
    for axis in AXES:
        values = values_of(changes, axis)
        if axis is REGIME:
            pairs = [(a, b) for i, a in enumerate(values) for b in values[i + 1 :]]
            found += [_contrast(changes, axis, pair, "") for pair in pairs]
            continue
        for regime in values_of(changes, REGIME):
            own = [one for one in changes if one.point.regime == regime]
            found += [_contrast(own, axis, pair, str(regime)) for pair in pairwise(values)]
    return [one for one in found if one is not None]


def _contrast(changes: Sequence[Change], axis: Axis, pair: tuple[Value, Value], regime: str) -> Contrast | None:
    first, second = (_rest(changes, axis, value) for value in pair)
    both = [(point, second[point] - first[point]) for point in first if point in second]
    if not both:
        return None
    return Contrast(axis.name, regime, axis.written(pair[0]), axis.written(pair[1]), _mean(both))


def _rest(changes: Sequence[Change], axis: Axis, value: Value) -> Mapping[Point, float]:
    return {axis.without(one.point): one.change for one in changes if axis.value(one.point) == value}
