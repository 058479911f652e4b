"""CK pruning: whole kernels, ranked by their largest weight."""

from __future__ import annotations

from campfire_fx.sparsity.granularity import KERNEL
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.regimes.fine_fc import FINE
from campfire_fx.sparsity.scope import WITHIN_LAYER, Scope
from campfire_fx.sparsity.score import largest
from campfire_fx.sparsity.selection import Cut


def ck(scope: Scope = WITHIN_LAYER) -> Regime:
    """Remove the kernels whose largest magnitude is lowest (Campfire, Algorithm 1).

    `scope` is what kernels are ranked in: the layer (the paper's text), or each input channel, which keeps as
    many kernels for every one (the recollected pseudo-code). In a 1x1 convolution a kernel is one weight.
    """
    kernels = Cut(KERNEL, largest, scope)
    return Regime("ck", spatial=kernels, pointwise=kernels, linear=FINE)
