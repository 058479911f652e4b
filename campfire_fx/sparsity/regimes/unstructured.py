"""Unstructured magnitude pruning, the baseline."""

from __future__ import annotations

from campfire_fx.sparsity.granularity import ELEMENT
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.regimes.fine_fc import FINE
from campfire_fx.sparsity.scope import WITHIN_LAYER
from campfire_fx.sparsity.score import largest
from campfire_fx.sparsity.selection import Cut

MAGNITUDE = Cut(ELEMENT, largest, WITHIN_LAYER)


def unstructured() -> Regime:
    """Remove single weights, the smallest of each layer."""
    return Regime("unstructured", spatial=MAGNITUDE, pointwise=MAGNITUDE, linear=FINE)
