"""The settings of a sweep: the values along each axis, and the points that they make."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from campfire_fx.base.errors import TrainError
from campfire_fx.sparsity import regime_named
from campfire_fx.sparsity.assignment import check_sparsity


@dataclass(frozen=True, slots=True)
class Point:
    """One training.

    Attributes:
        regime: as `sparsify` takes it; None: dense.
        sparsity: that the regime is asked for; 0 for dense.
        era: (first, last) epoch of the pruning era; None: the recipe's.
        rate: highest learning rate; None: the recipe's.
        drops: epochs at which it is divided by ten; None: the recipe's.
        seed: of initial weights and of the order and augmentation of images.
    """

    regime: str | None
    sparsity: float = 0.0
    era: tuple[int, int] | None = None
    rate: float | None = None
    drops: tuple[int, ...] | None = None
    seed: int = 0

    @property
    def dense(self) -> Point:
        """The dense training that it is held against: the same seed and learning rate."""
        return Point(None, rate=self.rate, drops=self.drops, seed=self.seed)

    @property
    def options(self) -> list[str]:
        """What `campfire-fx train` is told of it."""
        told = ["--seed", str(self.seed)]
        if self.regime is not None:
            told += ["--regime", self.regime, "--sparsity", f"{self.sparsity:g}"]
        if self.era is not None:
            told += ["--era", f"{self.era[0]}:{self.era[1]}"]
        if self.rate is not None:
            told += ["--learning-rate", f"{self.rate!r}"]
        if self.drops is not None:
            told += ["--drops", ",".join(map(str, self.drops)) or "none"]
        return told


@dataclass(frozen=True, slots=True)
class Axes:
    """The values along each axis; a sweep is all their combinations, or some of them.

    Attributes:
        regimes, sparsities, rates, drops, seeds: as in `Point`.
        eras: pruning eras, (first, last) epoch: see `eras_of`.
    """

    regimes: tuple[str, ...]
    sparsities: tuple[float, ...]
    eras: tuple[tuple[int, int] | None, ...] = (None,)
    rates: tuple[float | None, ...] = (None,)
    drops: tuple[tuple[int, ...] | None, ...] = (None,)
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for sparsity in self.sparsities:
            check_sparsity(sparsity, "--sparsity")

    @property
    def settings(self) -> int:
        """How many combinations there are, seeds left out."""
        return math.prod(len(axis) for axis in self._axes)

    @property
    def _axes(self) -> tuple[Sequence[object], ...]:
        return self.rates, self.drops, self.eras, self.sparsities, self.regimes

    def points(self, random_settings: int | None = None) -> tuple[Point, ...]:
        """Return the points, in the order in which an unfinished sweep says most.

        A seed is finished before the next one begins; in each, a dense training comes before those that are held
        against it. A regime that fixes its own sparsity (N:M) is trained at that one alone.

        Args:
            random_settings: only so many combinations, the same ones whenever they are drawn.

        Raises:
            RegimeError: there is no such regime.
            TrainError: more are asked for than there are, or less than one.
        """
        fixed = {name: regime_named(name).sparsity for name in self.regimes}
        found = []
        for rate, drops, era, sparsity, regime in self._combinations(random_settings):
            own = fixed[regime]
            found.append(Point(regime, sparsity if own is None else own, era, rate, drops))
        unique = list(dict.fromkeys(found))
        return tuple(in_order(replace(point, seed=seed) for seed in self.seeds for point in unique))

    def _combinations(
        self, random_settings: int | None
    ) -> Iterator[tuple[float | None, tuple[int, ...] | None, tuple[int, int] | None, float, str]]:
        if random_settings is None:
            yield from product(self.rates, self.drops, self.eras, self.sparsities, self.regimes)
            return
        if not 1 <= random_settings <= self.settings:
            raise TrainError(
                f"--random {random_settings}: the grid has {self.settings:,} combinations. Give 1 to {self.settings:,}."
            )
        for index in sorted(random.Random(0).sample(range(self.settings), random_settings)):
            rest, places = index, []
            for axis in reversed(self._axes):
                rest, place = divmod(rest, len(axis))
                places.append(place)
            regime, sparsity, era, drops, rate = places
            yield self.rates[rate], self.drops[drops], self.eras[era], self.sparsities[sparsity], self.regimes[regime]


def in_order(points: Iterable[Point]) -> Iterator[Point]:
    """Yield the points with the dense trainings that they are held against, each once."""
    seen = set()
    for point in points:
        for one in (point.dense, point):
            if one not in seen:
                seen.add(one)
                yield one


def eras_of(
    starts: Sequence[int], lengths: Sequence[int], epochs: int, *, skip_late: bool = False
) -> tuple[tuple[int, int], ...]:
    """Return the eras of all starts and lengths; `skip_late` leaves out those that end after the last epoch.

    Raises:
        TrainError: some end after the last epoch, or all do.
    """
    eras = tuple((start, start + length) for start in starts for length in lengths)
    late = [era for era in eras if era[1] > epochs]
    if late and (not skip_late or len(late) == len(eras)):
        told = ", ".join(f"{start} to {end}" for start, end in late[:4]) + (", ..." if len(late) > 4 else "")
        skip = "" if skip_late else ", or --skip-late to leave them out"
        raise TrainError(
            f"--era-start, --era-length: {len(late)} of {len(eras)} eras end after the last of {epochs} epochs"
            f" ({told}). Give --epochs {max(end for _, end in late)} or more{skip}."
        )
    return tuple(era for era in eras if era not in late)


def label(point: Point, *, era: bool = True) -> str:
    """Return what a point is called, its seed and learning rate left out."""
    if point.regime is None:
        return "dense"
    span = f", era {point.era[0]} to {point.era[1]}" if era and point.era is not None else ""
    return f"{point.regime} {100 * point.sparsity:g} %{span}"
