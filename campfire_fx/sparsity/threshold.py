"""A threshold in place of a count: how many groups die is not asked for, but comes out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.granularity import Granularity
from campfire_fx.sparsity.score import Score
from campfire_fx.sparsity.selection import Goal, lowest_of_all, rank


@dataclass(frozen=True, slots=True)
class Below:
    """Remove the groups of a layer whose score does not exceed a threshold; the best one always stays.

    The threshold rises with the schedule: where a part of the final sparsity is due, that part of it holds. The
    sparsity asked for plays no other part; what it has come to stands in the record (`sparsity().true`) and the log.
    Unlike other rules it may remove more when it is asked again, since weights have moved.

    Attributes:
        granularity: what dies together.
        score: of a group.
        threshold: the highest score that still dies, 0 or more.
        deviations: whether the threshold is in root mean squares of the layer's living weights.

    Raises:
        RegimeError: the threshold is not a number from 0 up.
    """

    granularity: Granularity
    score: Score
    threshold: float
    deviations: bool = False

    def __post_init__(self) -> None:
        value = plain(self.threshold)
        object.__setattr__(self, "threshold", value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise RegimeError(f"threshold: {value!r} is no number from 0 up. Give the highest score that still dies.")

    def __call__(self, weight: Tensor, mask: Tensor, goal: Goal) -> Tensor:
        """Propose a mask: see `Rule`."""
        scores = rank(weight, mask, self.granularity, self.score)
        limit = self.threshold * goal.sparsity / goal.final
        if self.deviations:
            limit *= float(weight[mask].double().square().mean().sqrt())
        others = lowest_of_all(scores, scores.numel() - 1)
        return mask & ~self.granularity.spread(others & (scores <= limit), weight.shape)
