"""Schedules: the fraction of the final sparsity that is due in each epoch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain, plain_fields


class Schedule(Protocol):
    """A frozen record of numbers: it is saved in the `state_dict` field by field."""

    @property
    def start(self) -> int:
        """The last epoch before anything moves."""

    @property
    def end(self) -> int:
        """The first epoch from which on nothing moves."""

    def fraction(self, epoch: int) -> float:
        """Return the part of the final sparsity due in `epoch` (counted from 0), in [0, 1]; never falls."""


@dataclass(frozen=True, slots=True)
class Polynomial:
    """Raise the sparsity over the era: s(e) = s_f * (1 - (1 - (e - start) / (end - start)) ** exponent).

    0 before the era, s_f from `end` on; an era of no length is a single step. Epochs count from 0, and s(end) is
    due when epoch `end` begins. Campfire, eq. (1), with an initial sparsity of 0. The exponent could not be read
    in the paper: 3 is that of Zhu and Gupta's schedule, on which it builds.

    Raises:
        RegimeError: the era ends before it starts or starts before 0, or the exponent is not positive.
    """

    start: int
    end: int
    exponent: float = 3.0

    def __post_init__(self) -> None:
        plain_fields(self)
        _check(self.start, self.end, self.exponent)

    def fraction(self, epoch: int) -> float:
        """Return 1 - (1 - (epoch - start) / (end - start)) ** exponent inside the era."""
        if epoch >= self.end:
            return 1.0
        if epoch <= self.start:
            return 0.0
        return 1.0 - (1.0 - (epoch - self.start) / (self.end - self.start)) ** self.exponent


@dataclass(frozen=True, slots=True)
class Constant:
    """Ask for the whole sparsity from epoch `start` on: one-shot pruning, and methods that are sparse throughout.

    It takes the era and the exponent as every schedule does, and makes no use of `end` and `exponent`.

    Raises:
        RegimeError: as `Polynomial`.
    """

    start: int
    end: int
    exponent: float = 3.0

    def __post_init__(self) -> None:
        plain_fields(self)
        _check(self.start, self.end, self.exponent)

    def fraction(self, epoch: int) -> float:
        """Return 0 before `start`, else 1."""
        return float(epoch >= self.start)


@dataclass(frozen=True, slots=True)
class Throughout(Constant):
    """Ask for the whole sparsity from the first step on (SWAT), whatever the era.

    Raises:
        RegimeError: as `Polynomial`.
    """

    def fraction(self, _epoch: int) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True, slots=True)
class Stages:
    """Divide the era into stages of equal length; the sparsity jumps at the end of each, and is aimed at within it.

    For methods that draw weights towards a sparsity before it is due (ADMM): one stage, or several of rising
    sparsity (progressive pruning). An era that is shorter than its stages passes some of them over.

    Attributes:
        parts: of the final sparsity, due at the end of each stage; rising, the last is 1.

    Raises:
        RegimeError: as `Polynomial`; or the parts do not rise to 1.
    """

    start: int
    end: int
    exponent: float = 3.0
    parts: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        plain_fields(self)
        _check(self.start, self.end, self.exponent)
        parts = tuple(map(plain, self.parts))  # a list in what a state_dict holds
        object.__setattr__(self, "parts", parts)
        if not parts or parts[-1] != 1 or parts[0] <= 0 or any(a >= b for a, b in pairwise(parts)):
            raise RegimeError(
                f"stages: {parts} do not rise to 1. Give parts of the final sparsity, as (0.5, 0.8, 1.0)."
            )

    def fraction(self, epoch: int) -> float:
        """Return the part of the last stage that has ended, or 0."""
        over = [part for part, end in zip(self.parts, self._ends(), strict=True) if end <= epoch]
        return over[-1] if over else 0.0

    def aim(self, epoch: int) -> float:
        """Return the part that will be due at the end of the stage in hand; before the first, that of the first."""
        ahead = [part for part, end in zip(self.parts, self._ends(), strict=True) if end > epoch]
        return ahead[0] if ahead else 1.0

    def _ends(self) -> list[int]:
        length, count = self.end - self.start, len(self.parts)
        return [self.start + length * (i + 1) // count for i in range(count)]


@dataclass(frozen=True, slots=True)
class Rounds:
    """Divide the era into rounds of equal length; at the end of each the same share of what is left goes.

    After r of R rounds the sparsity is 1 - (1 - s_f) ** (r / R): iterative pruning, as the Lottery Ticket has it.

    Attributes:
        rounds: how many, from 1 up; an era that is shorter passes some of them over.
        final: the sparsity s_f that it leads to: see `towards`.

    Raises:
        RegimeError: as `Polynomial`; or there is no round.
    """

    start: int
    end: int
    exponent: float = 3.0
    rounds: int = 5
    final: float = 0.0

    def __post_init__(self) -> None:
        plain_fields(self)
        _check(self.start, self.end, self.exponent)
        if type(self.rounds) is not int or self.rounds < 1:
            raise RegimeError(
                f"rounds: {self.rounds!r} is no number of rounds. Give 1 or more; the paper has about 10."
            )

    def fraction(self, epoch: int) -> float:
        """Return (1 - (1 - s_f) ** (r / R)) / s_f after r rounds."""
        part = sum(end <= epoch for end in self.ends) / self.rounds
        return (1 - (1 - self.final) ** part) / self.final if 0 < part < 1 and self.final else part

    @property
    def ends(self) -> list[int]:
        """The epochs in which a round is over."""
        return [self.start + (self.end - self.start) * (i + 1) // self.rounds for i in range(self.rounds)]


def towards(schedule: Schedule, sparsity: float) -> Schedule:
    """Return a schedule that knows the final sparsity of its layer, if it makes use of it."""
    return replace(schedule, final=sparsity) if isinstance(schedule, Rounds) else schedule


def not_over(era: tuple[int, int], epochs: int) -> str:
    """Return what is wrong with an era in a training, if it leaves no epoch to recover; or ""."""
    if era[1] < epochs:
        return ""
    return (
        f"the era ({era[0]} to {era[1]}) is not over before the last of {epochs} epochs, so that none is left to"
        " recover from the last pruning"
    )


def aim(schedule: Schedule, epoch: int) -> float:
    """Return the part of the final sparsity that a schedule is heading for in an epoch: all of it, but in `Stages`."""
    return schedule.aim(epoch) if isinstance(schedule, Stages) else 1.0


def _check(start: int, end: int, exponent: object) -> None:
    if start < 0 or end < start:
        raise RegimeError(f"era: ({start}, {end}) is not a span of epochs. Give (start, end) with 0 <= start <= end.")
    if not isinstance(exponent, (int, float)) or not exponent > 0:
        raise RegimeError(f"exponent: {exponent!r} is not above 0. Give a positive number; 3 is the default.")
