"""Combined pruning: window first, whole kernels for the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.granularity import ELEMENT, KERNEL
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.regimes.fine_fc import FINE
from campfire_fx.sparsity.regimes.window import check_cap
from campfire_fx.sparsity.scope import WITHIN_KERNEL, WITHIN_LAYER, Scope
from campfire_fx.sparsity.score import largest
from campfire_fx.sparsity.selection import ROUNDING, Cut, Goal, lowest, nearest, rank


@dataclass(frozen=True, slots=True)
class WindowThenKernels:
    """Window pruning to `fraction` of the sparsity, then as many whole kernels as the layer still needs.

    With K*C kernels of P weights, s the sparsity due, and z = fraction * s * P:

    1. every kernel loses its int(z) smallest weights, and the round((z - int(z)) * K*C) kernels whose next weight
       is the smallest lose one more, so that the window share is met to the weight and no kernel keeps more than
       P - int(z);
    2. kernels die in the order of their largest magnitude until the layer has no more than (1 - s) * K*C*P weights:
       less than one kernel below that, and at least one kernel always stays.

    Step 2 counts the weights that step 1 really left, so the layer meets s; 1 - (1 - s)/(1 - w) of the kernels die
    for a window share w. The paper prunes "the remaining fraction" and does not say of what: this reading, and the
    spread of the fraction of a weight in step 1 (without it the window jumps by ninths, and kernels killed before a
    jump would leave the layer sparser than asked), are choices made here.
    """

    fraction: float = 0.8
    cap: int | None = None
    scope: Scope = WITHIN_LAYER

    def __call__(self, weight: Tensor, mask: Tensor, goal: Goal) -> Tensor:
        """Propose a mask: see `Rule`."""
        if goal.sparsity <= 0:
            return mask
        zeros = self.fraction * goal.sparsity * weight.shape[2]
        if self.cap is not None:
            zeros = max(zeros, weight.shape[2] - self.cap)
        kept = mask & windows(weight, mask, zeros)
        return kept & self._kernels(weight, kept, goal.sparsity)

    def _kernels(self, weight: Tensor, kept: Tensor, sparsity: float) -> Tensor:
        scores = rank(weight, kept, KERNEL, largest)  # (K, C, 1)
        pools = self.scope.pools(scores)
        order = pools.argsort(dim=1, stable=True)
        counts = self.scope.pools(kept.sum(-1, keepdim=True).double()).gather(1, order)
        removed_before = counts.cumsum(1) - counts
        budget = (1 - sparsity) * pools.shape[1] * weight.shape[2]
        over = counts.sum(1, keepdim=True) - removed_before > budget + 1e-6
        over[:, -1] = False  # the best kernel stays
        dead = torch.zeros_like(over).scatter(1, order, over)
        return ~self.scope.grid(dead, scores.shape)


def windows(weight: Tensor, mask: Tensor, zeros: float, idle: int = 0) -> Tensor:
    """Propose a mask with `zeros` zeros in each kernel on average, and int(zeros) in each at least.

    The kernels whose next weight is the smallest get the odd one. At least one weight of each kernel stays.

    Args:
        weight: (K, C, P).
        mask: (K, C, P) bool, the mask so far.
        zeros: zeros per kernel, in [0, P].
        idle: dead kernels that do not count in the average; they are first in line for the odd zero.
    """
    size = weight.shape[2]
    scores = WITHIN_KERNEL.pools(rank(weight, mask, ELEMENT, largest))  # (K*C, P)
    each = min(int(zeros + ROUNDING), size - 1)
    dead = lowest(scores, each)
    odd = nearest(len(scores) - idle, zeros - each) + idle
    if odd > 0 and each + 1 < size:
        following = scores.kthvalue(each + 1, dim=1).values
        chosen = lowest(following.unsqueeze(0), min(odd, len(scores))).squeeze(0)
        dead = torch.where(chosen.unsqueeze(1), lowest(scores, each + 1), dead)
    return ~dead.view_as(weight)


def combined(fraction: float = 0.8, cap: int | None = None, scope: Scope = WITHIN_LAYER) -> Regime:
    """Prune by window to `fraction` (0.8) of the sparsity and by whole kernels for the rest (Campfire, Algorithm 4).

    Every layer meets its target. 1x1 convolutions have no window: there both steps are pruning by magnitude.
    `scope` is what kernels are ranked in, as in `ck`.

    Raises:
        RegimeError: the fraction is outside [0, 1], or the cap below 1.
    """
    both = WindowThenKernels(check_fraction("combined", fraction), check_cap("combined", cap), scope)
    return Regime("combined", spatial=both, pointwise=Cut(ELEMENT, largest, scope), linear=FINE)


def check_fraction(regime: str, fraction: float) -> float:
    """Return a window fraction; raise a RegimeError if it is no part of the sparsity."""
    fraction = plain(fraction)
    if not 0 <= fraction <= 1:
        raise RegimeError(f"regime '{regime}': a window fraction of {fraction} is outside [0, 1]. The paper uses 0.8.")
    return fraction
