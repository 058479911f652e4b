"""Campfire (arXiv 2001.03253): windows, whole kernels, both together, and its two rules for linear layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.granularity import ELEMENT, KERNEL, block
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.scope import WITHIN_KERNEL, WITHIN_LAYER, Scope
from campfire_fx.sparsity.score import l1, largest
from campfire_fx.sparsity.selection import ROUNDING, Cut, Goal, lowest, nearest, rank

FINE = Cut(ELEMENT, largest, WITHIN_LAYER, guard=True)
MAGNITUDE = Cut(ELEMENT, largest, WITHIN_LAYER)
KERNELS = Cut(KERNEL, largest, WITHIN_LAYER)


@dataclass(frozen=True, slots=True)
class ZerosPerKernel:
    """How many weights of a kernel of `size` die at sparsity s: max(int(s * size), size - cap - 1) + 1.

    Always a whole number, the same for all kernels of a layer, and above s * size: a 3x3 kernel has 2, 4, 6, 7, 8
    zeros at 20, 40, 60, 70, 80 %, so the true sparsity is .22, .44, .67, .78, .89. `cap` is the largest number of
    non-zeros allowed in a kernel, whatever the sparsity; it holds from the first epoch in which s > 0.

    The paper says only that the number is fixed. The formula is recollected and not verified; with cap = 2 it
    reproduces the true sparsities of the paper's Table 1, which is an inference and not a statement of the paper.
    """

    cap: int | None = None

    def __call__(self, size: int, sparsity: float) -> int:
        """Count the zeros of a kernel."""
        if sparsity <= 0:
            return 0
        floor = 0 if self.cap is None else size - self.cap - 1
        return max(int(size * sparsity + ROUNDING), floor) + 1


def window(cap: int | None = None) -> Regime:
    """Keep at most a fixed number of weights in every kernel, the largest (Campfire, Algorithm 3).

    Kernels of one weight (1x1 convolutions) have no window: they are pruned by magnitude within the layer, and
    linear layers weight by weight. At least one weight of every kernel stays.

    Raises:
        RegimeError: the cap is below 1.
    """
    cap = check_cap("window", cap)
    inside = Cut(ELEMENT, largest, WITHIN_KERNEL, ZerosPerKernel(cap))
    return Regime("window", spatial=inside, pointwise=MAGNITUDE, linear=FINE)


def check_cap(regime: str, cap: int | None) -> int | None:
    """Return a cap on non-zeros; raise a RegimeError if it is no number of them, or leaves nothing."""
    cap = plain(cap)
    if cap is not None and (type(cap) is not int or cap < 1):
        wrong = "leaves nothing of a kernel" if type(cap) is int else "is no whole number"
        raise RegimeError(f"regime '{regime}': a cap of {cap!r} non-zeros {wrong}. Give 1 or more, or None.")
    return cap


def ck(scope: Scope = WITHIN_LAYER) -> Regime:
    """Remove the kernels whose largest magnitude is lowest (Campfire, Algorithm 1).

    `scope` is what kernels are ranked in: the layer (the paper's text), or each input channel, which keeps as
    many kernels for every one (the recollected pseudo-code). In a 1x1 convolution a kernel is one weight.
    """
    kernels = Cut(KERNEL, largest, scope)
    return Regime("ck", spatial=kernels, pointwise=kernels, linear=FINE)


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


@dataclass(frozen=True, slots=True)
class KernelsThenWindow:
    """Kernels die until their share of the final sparsity is reached; from then on windows close.

    The final shares are those of combined pruning: w = fraction * s_f, kernels 1 - (1 - s_f)/(1 - w). The layer
    meets the sparsity that is due throughout.
    """

    fraction: float = 0.8

    def __call__(self, weight: Tensor, mask: Tensor, goal: Goal) -> Tensor:
        """Propose a mask: see `Rule`."""
        share = 1 - (1 - goal.final) / (1 - self.fraction * goal.final)
        kept = mask & KERNELS(weight, mask, Goal(min(goal.sparsity, share), goal.final))
        if goal.sparsity <= share:
            return kept
        idle = int((~kept.any(-1)).sum())
        live = kept[..., 0].numel() - idle
        wanted = goal.sparsity * kept.numel() - idle * weight.shape[2]
        return kept & windows(weight, kept, max(0.0, wanted / live), idle)


def inter_epoch(fraction: float = 0.8) -> Regime:
    """Prune kernels first and windows after, in two phases of the era: the variant the paper rejected.

    At 40 % it reached 74.1 against 74.9 of combined pruning (ResNet-50 v1.5, ImageNet, the paper's appendix).
    Where the paper ended one phase and began the next is not known; here the schedule passes from one to the
    other at the kernels' share.

    Raises:
        RegimeError: the fraction is outside [0, 1].
    """
    fraction = check_fraction("inter-epoch", fraction)
    return Regime("inter-epoch", spatial=KernelsThenWindow(fraction), pointwise=MAGNITUDE, linear=FINE)


def fine_fc() -> Regime:
    """Remove the smallest weights of each linear layer; every output keeps at least one (Campfire, 2.1.2)."""
    return Regime("fine-fc", spatial=None, pointwise=None, linear=FINE)


def block_fc(size: int = 5) -> Regime:
    """Remove n x n blocks of each linear layer, those of the smallest sum of magnitudes (Campfire, 2.1.2; n = 5).

    Every output keeps at least one block. The paper does not say what becomes of blocks cut short by the edge:
    here they are ranked by their mean, which for whole blocks is the order of the sums.

    Raises:
        RegimeError: the size is not a whole number from 1 up.
    """
    size = plain(size)
    if type(size) is not int or size < 1:
        raise RegimeError(
            f"regime 'block-fc': blocks of {size!r} hold no weight. Give a whole number; the paper has 5."
        )
    blocks = Cut(block(size), l1, WITHIN_LAYER, guard=True)
    return Regime("block-fc", spatial=None, pointwise=None, linear=blocks)


_PAPER = "Gamboa et al. 2020, arXiv 2001.03253"

ENTRIES = (
    RegimeEntry(
        name="window",
        make=window,
        does="keeps the same number of largest weights in every kernel; 1x1 convolutions are pruned by magnitude",
        family="campfire",
        granularity="weights in each kernel",
        gains="weights",
        source=f"{_PAPER}, Algorithm 3",
    ),
    RegimeEntry(
        name="ck",
        make=ck,
        does="prunes the kernels whose largest weight is smallest; in a 1x1 convolution a kernel is one weight",
        family="campfire",
        granularity="kernel",
        gains="kernels",
        source=f"{_PAPER}, Algorithm 1",
    ),
    RegimeEntry(
        name="combined",
        make=combined,
        does="`window` to 0.8 of the sparsity, then `ck` for the rest; 1x1 convolutions are pruned by magnitude",
        family="campfire",
        granularity="weights in each kernel, then kernels",
        gains="kernels",
        source=f"{_PAPER}, Algorithm 4",
    ),
    RegimeEntry(
        name="inter-epoch",
        make=inter_epoch,
        does="`ck` in the first part of the era, `window` in the second: the variant that the paper rejected",
        family="campfire",
        granularity="kernels, then weights in each kernel",
        gains="kernels",
        source=f"{_PAPER}, appendix A",
    ),
    RegimeEntry(
        name="fine-fc",
        make=fine_fc,
        does="prunes the smallest weights of each linear layer; every output keeps one; convolutions stay dense",
        family="campfire",
        granularity="weight",
        gains="classifier",
        source=f"{_PAPER}, section 2.1.2",
    ),
    RegimeEntry(
        name="block-fc",
        make=block_fc,
        does="prunes the 5x5 blocks of linear layers with the smallest L1 norm; convolutions stay dense",
        family="campfire",
        granularity="block",
        gains="classifier",
        source=f"{_PAPER}, section 2.1.2",
    ),
)
