"""Which coupled groups die: the cheapest for what they save, one after the other, until every cost is met."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.channels.costs import Cost, Widths
from campfire_fx.sparsity.channels.coupling import Alive, CoupledSet, Coupling, Floats

_COARSE = 64
EVEN = "each set"
GLOBAL = "global"


@dataclass(frozen=True, slots=True)
class Limit:
    """A cost and the most that it may come to."""

    cost: Cost
    most: float

    def excess(self, widths: Floats) -> float:
        """Return by how much it is passed; 0 or less: it holds."""
        return self.cost.total(widths) - self.most * (1 + 1e-9)


def floors(coupling: Coupling, at_least: Sequence[float], multiple: int = 1) -> Widths:
    """Return the fewest groups that each set keeps: at least one, and a multiple or all that it has.

    Args:
        coupling: the sets.
        at_least: of each set; a share up to 1.0, or a whole number of channels as an int.
        multiple: sets keep a multiple of so many channels.
    """
    least = [_floor(one, least) for one, least in zip(coupling.sets, at_least, strict=True)]
    return rounded_up(coupling, np.array(least, dtype=np.int64), multiple)


def rounded_up(coupling: Coupling, widths: Widths, multiple: int) -> Widths:
    """Return the fewest groups from `widths` up that have a multiple of so many channels, or all that a set has."""
    steps = np.array([_step(one, multiple) for one in coupling.sets], dtype=np.int64)
    return np.minimum(-(-widths // steps) * steps, np.array([one.size for one in coupling.sets], dtype=np.int64))


def _floor(one: CoupledSet, least: float) -> int:
    wanted = -(-least // one.channels) if isinstance(least, int) else np.ceil(least * one.whole - 1e-9)
    return int(min(one.size, max(1, wanted)))


def check_floor(value: object, where: str) -> float:
    """Return a floor of sets: a share in [0, 1], or a whole number of channels from 1 up; raise if it is neither."""
    value = plain(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise RegimeError(f"at_least at {where}: {value!r} is neither a share in [0, 1] nor a number of channels.")


def choose(
    coupling: Coupling,
    scores: Floats,
    alive: Alive,
    limits: Sequence[Limit],
    floor: Widths,
    *,
    scope: str = GLOBAL,
    multiple: int = 1,
    coarse: bool = False,
) -> Alive:
    """Return which groups live on.

    In the scope "global" that group dies next whose score is the lowest for what it saves, over all sets; in "each set"
    the weakest group of the set of which the largest share is left, so that all sets shrink alike. Savings count
    against each limit that is not met yet, as parts of what is left to save. Of equal groups the first dies.

    Args:
        coupling: the sets.
        scores: how much each group matters, (groups,), 0 or more.
        alive: which live so far, (groups,): none comes back.
        limits: what must hold in the end; where floors forbid it, what is left is the least there can be.
        floor: the fewest groups that each set keeps, (sets,): see `rounded_up`.
        scope: "global" or "each set".
        multiple: sets keep a multiple of so many channels.
        coarse: groups die by sixty-fourths of their sets, for costs that take long to ask for.
    """
    alive = alive.copy()
    queues = [_Queue(one.start, alive[one.start : one.stop], scores[one.start : one.stop]) for one in coupling.sets]
    steps = np.array([_step(one, multiple, coarse=coarse) for one in coupling.sets], dtype=np.int64)
    sizes = np.array([one.whole for one in coupling.sets], dtype=np.float64)
    widths = np.array([queue.left for queue in queues], dtype=np.float64)
    chunk = np.where(widths % steps == 0, steps, widths % steps).astype(np.int64)
    chunk = np.minimum(chunk, (widths - floor).astype(np.int64))  # the last one ends at the floor
    lost = np.array([queue.lowest(count) for queue, count in zip(queues, chunk, strict=True)])
    while passed := [(limit.cost, excess) for limit in limits if (excess := limit.excess(widths)) > 0]:
        price = -widths / sizes if scope == EVEN else _prices(passed, widths, chunk, lost)
        price[chunk <= 0] = np.inf
        if not price.size or price.min() == np.inf:
            break
        weakest = int(price.argmin())
        alive[queues[weakest].take(int(chunk[weakest]))] = False
        widths[weakest] -= chunk[weakest]
        chunk[weakest] = min(steps[weakest], int(widths[weakest]) - floor[weakest])
        lost[weakest] = queues[weakest].lowest(int(chunk[weakest]))
    return alive


def above(
    scores: Floats, threshold: float, coupling: Coupling, alive: Alive, floor: Widths, *, multiple: int = 1
) -> Alive:
    """Return which living groups have a score above a threshold, and of each set the best ones up to its floor.

    Args:
        scores: how much each group matters, (groups,).
        threshold: what dies has no more than that.
        coupling: the sets.
        alive: which live so far, (groups,): none comes back.
        floor: the fewest groups that each set keeps, (sets,); of equal groups the last stay.
        multiple: sets keep a multiple of so many channels.
    """
    left = alive & (scores > threshold)
    floor = np.minimum(rounded_up(coupling, np.maximum(floor, coupling.widths(left)), multiple), coupling.widths(alive))
    for one, least in zip(coupling.sets, floor, strict=True):
        inside = slice(one.start, one.stop)
        missing = int(least - left[inside].sum())
        if missing > 0:
            dead = (alive[inside] & ~left[inside]).nonzero()[0]
            best = dead[scores[inside][dead].argsort(kind="stable")][-missing:]
            left[best + one.start] = True
    return left


def _step(one: CoupledSet, multiple: int, *, coarse: bool = False) -> int:
    """Return how many groups of a set die at once."""
    least = multiple // math.gcd(multiple, one.channels)
    return least * max(1, one.whole // (_COARSE * least)) if coarse else least


def _prices(passed: Sequence[tuple[Cost, float]], widths: Floats, chunk: Widths, lost: Floats) -> Floats:
    """Return what the next chunk of each set is worth, for what it saves; inf where it saves nothing."""
    saved = np.sum([cost.savings(widths) / excess for cost, excess in passed], axis=0) * chunk
    return np.where(saved > 0, lost / np.maximum(saved, 1e-300), np.inf)


class _Queue:
    """The living groups of one set, the weakest first."""

    def __init__(self, start: int, alive: Alive, scores: Floats) -> None:
        places = alive.nonzero()[0]
        order = scores[places].argsort(kind="stable")
        self._groups: NDArray[np.int64] = places[order] + start
        self._scores: Floats = scores[places][order]
        self._first = 0

    @property
    def left(self) -> int:
        return self._groups.size - self._first

    def lowest(self, count: int) -> float:
        """Return the sum of the lowest scores."""
        return float(self._scores[self._first : self._first + count].sum())

    def take(self, count: int) -> NDArray[np.int64]:
        """Return the weakest groups, and forget them."""
        self._first += count
        return self._groups[self._first - count : self._first]
