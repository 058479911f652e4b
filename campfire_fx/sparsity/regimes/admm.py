"""StructADMM: the same projections for every structure, on the way to them ADMM, and masked retraining after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.admm import Admm
from campfire_fx.sparsity.granularity import ELEMENT, Granularity
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.schedule import Stages
from campfire_fx.sparsity.scope import WITHIN_LAYER
from campfire_fx.sparsity.score import l2
from campfire_fx.sparsity.selection import Cut, Goal, Rule


@dataclass(frozen=True, slots=True)
class InTurn:
    """One structure until its share of the final sparsity is reached, then another on what is left.

    Meant for structures that cross, as columns and filters do: with a share a of the columns dead, a share
    b = 1 - (1 - s)/(1 - a) of the filters dies, and the layer has s. The first structure keeps to whole groups, so
    the second makes up for its rounding.
    """

    first: Cut
    second: Cut
    share: float

    def __call__(self, weight: Tensor, mask: Tensor, goal: Goal) -> Tensor:
        """Propose a mask: see `Rule`."""
        first = min(goal.sparsity, self.share * goal.final)
        kept = mask & self.first(weight, mask, Goal(first, goal.final))
        if goal.sparsity <= self.share * goal.final:
            return kept
        left = float(self.first.granularity.split(kept).any(-1).double().mean())
        return kept & self.second(weight, kept, Goal(max(0.0, 1 - (1 - goal.sparsity) / left), goal.final))


def admm(
    granularity: Granularity, *, rho: float | None = None, update: Admm | None = None, steps: Sequence[float] = (1.0,)
) -> Regime:
    """Draw the weights towards a structured sparsity by ADMM over the era; at its end, cut and freeze (StructADMM).

    Before the cut the weights are dense. What is cut are the groups of smallest L2 norm, so every iteration projects
    exactly: filters, channels, columns (shape-wise) or kernels of convolutions, or single weights of all layers.
    The epochs after the era are the paper's masked retraining.

    Args:
        granularity: `FILTER`, `CHANNEL`, `COLUMN`, `KERNEL`, `ELEMENT`, or another.
        rho: of the penalty, where there is no `update`.
        update: rho, its multiplier and the epochs of an iteration; `Admm()` where None.
        steps: parts of the final sparsity for pruning in several steps, each with an equal part of the era; the zeros
            of earlier steps are frozen, and ADMM starts anew with Z = Proj(W), U = 0 and the first rho.

    Raises:
        RegimeError: the steps do not rise to 1, or rho is not positive.
    """
    name = "unstructured" if granularity == ELEMENT else granularity.name
    groups = Cut(granularity, l2, WITHIN_LAYER)
    return _regime(name, groups, groups if granularity == ELEMENT else None, _update(rho, update), tuple(steps))


def admm_in_turn(
    first: Granularity,
    second: Granularity,
    *,
    share: float = 0.7,
    rho: float | None = None,
    update: Admm | None = None,
) -> Regime:
    """Chain two structures, each with half of the era: as `admm` for the first, then for the second on what it left.

    Args:
        first: of convolutions, as `COLUMN`.
        second: one that crosses it, as `FILTER`.
        share: of the final sparsity that the first one brings.
        rho: as in `admm`, and so is the next.
        update: of both.

    Raises:
        RegimeError: the share is not between 0 and 1, or rho is not positive.
    """
    share = plain(share)
    if not 0 < share < 1:
        raise RegimeError(
            f"regime 'admm': a share of {share!r} is not between 0 and 1. Give 0.7, or use one structure."
        )
    both = InTurn(Cut(first, l2, WITHIN_LAYER), Cut(second, l2, WITHIN_LAYER), share)
    return _regime(f"{first.name}-{second.name}", both, None, _update(rho, update), (share, 1.0))


def _update(rho: float | None, update: Admm | None) -> Admm:
    if update is not None:
        return update
    return Admm() if rho is None else Admm(rho)


def _regime(name: str, rule: Rule, linear: Rule | None, update: Admm, parts: tuple[float, ...]) -> Regime:
    schedule = partial(Stages, parts=parts)
    schedule(0, 1)  # says what is wrong with the parts
    return Regime(f"admm-{name}", rule, rule, linear, schedule=schedule, update=update)
