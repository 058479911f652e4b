"""Filter pruning: whole output channels."""

from __future__ import annotations

from campfire_fx.sparsity.granularity import FILTER
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.scope import WITHIN_LAYER
from campfire_fx.sparsity.score import l2
from campfire_fx.sparsity.selection import Cut


def filters() -> Regime:
    """Remove the filters of smallest L2 norm in each convolution (StructADMM's filter-wise set, by magnitude)."""
    whole = Cut(FILTER, l2, WITHIN_LAYER)
    return Regime("filter", spatial=whole, pointwise=whole, linear=None)
