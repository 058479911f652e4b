"""Top-K: what a threshold keeps, which can be used again while the weights move."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from campfire_fx.base.ordering import kth_smallest
from campfire_fx.sparsity.granularity import Granularity
from campfire_fx.sparsity.scope import WITHIN_LAYER
from campfire_fx.sparsity.score import Score
from campfire_fx.sparsity.selection import ROUNDING, Cut, Goal


def at_most(size: int, sparsity: float) -> int:
    """Return how many groups of `size` die so that k = ceil((1 - s) * size) stay (SWAT)."""
    return size - math.ceil((1 - sparsity) * size - ROUNDING)


@dataclass(frozen=True, slots=True)
class TopK:
    """Keep the k = ceil((1 - s) * n) groups of highest score of a layer.

    As a rule it is exact, ties by index. As a threshold it keeps whatever reaches it, so ties stay, and the number
    floats while a threshold is used for weights that have moved since (as in the code of SWAT's authors).

    Attributes:
        granularity: what is kept or not.
        score: what it is ranked by.
        reuse: whether a threshold holds for a whole period; else it is computed after every step.
    """

    granularity: Granularity
    score: Score
    reuse: bool = True

    def __call__(self, weight: Tensor, mask: Tensor, goal: Goal) -> Tensor:
        """Propose a mask: see `Rule`."""
        return Cut(self.granularity, self.score, WITHIN_LAYER, at_most)(weight, mask, goal)

    def threshold(self, weight: Tensor, sparsity: float) -> Tensor:
        """Return the k-th highest score of a weight (K, C, P), ()."""
        scores = self._scores(weight).flatten()
        dead = min(at_most(len(scores), sparsity), len(scores) - 1)
        return kth_smallest(scores, dead + 1)

    def above(self, weight: Tensor, threshold: Tensor) -> Tensor:
        """Return which weights of (K, C, P) are in groups that reach a threshold, (K, C, P) bool."""
        return self.granularity.spread(self._scores(weight) >= threshold, weight.shape)

    def _scores(self, weight: Tensor) -> Tensor:
        return self.score(self.granularity.split(weight.abs()), self.granularity.sizes(weight))

    def __repr__(self) -> str:
        reuse = "" if self.reuse else ", exact in every step"
        return f"TopK({self.granularity.name}, {getattr(self.score, '__name__', repr(self.score))}{reuse})"
