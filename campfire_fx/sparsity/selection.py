"""Selection: exactly the k lowest of a pool, ties by index, and the rule made of the parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from campfire_fx.sparsity.granularity import Granularity
from campfire_fx.sparsity.scope import Scope
from campfire_fx.sparsity.score import Score

DEAD = -1.0  # below every score: what is dead already dies first, so that counts include it
PROTECTED = torch.inf  # above every score, and never selected
_FEW = 8  # entries of a row
ROUNDING = 1e-9  # 0.7 of 45 is 31.5, and not the 31.499999999999996 that floats make of it


@dataclass(frozen=True, slots=True)
class Goal:
    """What a layer is asked for: the sparsity due now, and the one it ends with; both in [0, 1)."""

    sparsity: float
    final: float


class Rule(Protocol):
    """How one layer's mask is chosen. A frozen record: its repr is what a state_dict is compared by."""

    def __call__(self, weight: Tensor, mask: Tensor, goal: Goal) -> Tensor:
        """Propose a mask.

        Args:
            weight: (K, C, P), finite.
            mask: (K, C, P) bool, the mask so far; True = kept.
            goal: the sparsity asked for.

        Returns:
            (K, C, P) bool. Asked again with the same goal and the mask it gave, a rule proposes that mask
            again, whatever has become of the weights: so masks need computing only when the goal moves.
        """


@dataclass(frozen=True, slots=True)
class Whole:
    """The rule of a layer in which nothing dies by itself: whole channels may, with those of other layers."""

    def __call__(self, weight: Tensor, mask: Tensor, goal: Goal) -> Tensor:
        """Propose the mask that there is: see `Rule`."""
        del weight, goal
        return mask


WHOLE = Whole()

Count = Callable[[int, float], int]


def nearest(size: int, sparsity: float) -> int:
    """Return the number of groups, of `size`, that is nearest to the sparsity; halves go up."""
    return int(size * sparsity + 0.5 + ROUNDING)


def lowest(scores: Tensor, count: int) -> Tensor:
    """Mark the `count` lowest of each row; of equal scores the first ones. PROTECTED is never marked.

    Deterministic: equal scores on every rank of a distributed run give equal marks.

    Args:
        scores: (rows, size).
        count: 0 <= count <= size.

    Returns:
        (rows, size) bool.
    """
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if scores.shape[1] <= _FEW:
        return _lowest_of_few(scores, count)
    limit = scores.kthvalue(count, dim=1, keepdim=True).values
    below = scores < limit
    tied = scores == limit
    room = count - below.sum(1, keepdim=True)
    crowded = tied.sum(1) > room.squeeze(1)
    if bool(crowded.any()):  # counting the tied ones is the costly part, and most rows have a single one
        tied[crowded] &= tied[crowded].cumsum(1) <= room[crowded]
    return (below | tied) & (scores < PROTECTED)


def _lowest_of_few(scores: Tensor, count: int) -> Tensor:
    """Do what `lowest` does by comparing all pairs of a row: 5 times as fast for rows of 4 on a CPU, 2 times for 8."""
    columns, marked = scores.unbind(1), []
    for i, one in enumerate(columns):
        ahead = torch.zeros_like(one, dtype=torch.int8)
        for j, other in enumerate(columns):
            if j != i:
                ahead += other <= one if j < i else other < one
        marked.append((ahead < count) & (one < PROTECTED))
    return torch.stack(marked, 1)


def lowest_of_all(scores: Tensor, count: int) -> Tensor:
    """Mark the `count` lowest of a whole tensor: see `lowest`."""
    return lowest(scores.reshape(1, -1), count).view_as(scores)


def rank(weight: Tensor, mask: Tensor, granularity: Granularity, score: Score) -> Tensor:
    """Score every group, (a, b, c); DEAD where the mask holds no weight of it."""
    magnitudes = granularity.split(weight.abs().masked_fill(~mask, 0))
    alive = granularity.split(mask).any(-1)
    return score(magnitudes, granularity.sizes(weight)).masked_fill(~alive, DEAD)


@dataclass(frozen=True, slots=True)
class Cut:
    """Remove the lowest groups of every pool: granularity x score x scope.

    From each pool of n groups `count(n, s)` die, those already dead included; at least one always stays, so that
    no layer is lost. `guard` also keeps the best group of every output, so that each output neuron of a linear
    layer still sees its input (Campfire's fully connected rule).
    """

    granularity: Granularity
    score: Score
    scope: Scope
    count: Count = nearest
    guard: bool = False

    def __call__(self, weight: Tensor, mask: Tensor, goal: Goal) -> Tensor:
        """Propose a mask: see `Rule`."""
        scores = rank(weight, mask, self.granularity, self.score)
        if self.guard:
            scores = guarded(scores)
        pools = self.scope.pools(scores)
        size = pools.shape[1]
        dead = lowest(pools, max(0, min(self.count(size, goal.sparsity), size - 1)))
        return mask & ~self.granularity.spread(self.scope.grid(dead, scores.shape), weight.shape)

    def __repr__(self) -> str:
        guard = ", guard" if self.guard else ""
        score, count = (getattr(part, "__name__", repr(part)) for part in (self.score, self.count))
        return f"Cut({self.granularity.name}, {score}, within {self.scope.name}, {count}{guard})"


def guarded(scores: Tensor) -> Tensor:
    """Protect the best group of each output, unless all of them are dead."""
    rows = scores.flatten(1)
    best, index = rows.max(1, keepdim=True)
    return rows.scatter(1, index, torch.where(best > DEAD, PROTECTED, best)).view_as(scores)
