"""Fine pruning of linear layers: single weights."""

from __future__ import annotations

from campfire_fx.sparsity.granularity import ELEMENT
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.scope import WITHIN_LAYER
from campfire_fx.sparsity.score import largest
from campfire_fx.sparsity.selection import Cut

FINE = Cut(ELEMENT, largest, WITHIN_LAYER, guard=True)


def fine_fc() -> Regime:
    """Remove the smallest weights of each linear layer; every output keeps at least one (Campfire, 2.1.2)."""
    return Regime("fine-fc", spatial=None, pointwise=None, linear=FINE)
