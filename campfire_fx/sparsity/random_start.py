"""Regimes that begin with random weights: sparse from the first step, for the whole training."""

from __future__ import annotations

from typing import Any

from campfire_fx.sparsity.granularity import ELEMENT, Granularity
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.schedule import Throughout
from campfire_fx.sparsity.scope import WITHIN_LAYER, Scope
from campfire_fx.sparsity.score import at_random
from campfire_fx.sparsity.selection import Count, Cut
from campfire_fx.sparsity.topk import at_most


def random_start(
    name: str,
    *,
    granularity: Granularity = ELEMENT,
    scope: Scope = WITHIN_LAYER,
    count: Count = at_most,
    **parts: Any,
) -> Regime:
    """Return a regime whose first masks are drawn at random, and final from the first step but for what `update` does.

    Args:
        name: of the regime.
        granularity: what is kept or not in convolutions; in linear layers it is single weights.
        scope: in what as many are kept as are asked for.
        count: how many of a pool are not kept.
        parts: `update`, `budget` and others of `Regime`.
    """
    cut, fine = (Cut(one, at_random, scope, count) for one in (granularity, ELEMENT))
    return Regime(name, cut, cut, fine, schedule=Throughout, **parts)
