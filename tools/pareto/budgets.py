"""How long a network trains: as many epochs as the dense one, or as many as cost what the dense ones do.

The cost is counted in multiply-accumulates (MACs) of a training step: two backward for each forward.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

from campfire_fx.app.train.recipe import Recipe
from campfire_fx.sparsity import Polynomial
from pareto.plan import DENSE, THEIRS, Run

PASSES = 3  # a step costs as much as so many forward passes
GRADIENT_BATCHES = 10  # of which Torch-Pruning's Taylor score is made, beside the steps
Shares = Callable[[int], float]


def planned_shares(run: Run, recipe: Recipe, width_share: float) -> Shares:
    """Return the share of the dense MACs that a network is planned to have, by epoch.

    Args:
        run: which.
        recipe: with its epochs and era.
        width_share: of the dense MACs, where widths are fixed from the beginning.
    """
    target = 1.0 if run.target is None else run.target
    if run.new_weights:
        return lambda _: width_share
    if run.kind == THEIRS and run.parts[1] == "one-shot":
        return lambda epoch: target if epoch >= recipe.epochs // 2 else 1.0
    return along_era(recipe, target) if run.kind == THEIRS or run.cut else lambda _: 1.0


def along_era(recipe: Recipe, target: float) -> Shares:
    """Return how the share of the dense MACs falls to its target over the era: eq. (1) of Campfire."""
    schedule = Polynomial(*recipe.era)
    return lambda epoch: 1 - schedule.fraction(epoch) * (1 - target)


def dense_epochs(run: Run, recipe: Recipe, width_share: float, steps: int) -> float:
    """Return how many epochs of the dense network cost what a run is planned to cost.

    Args:
        run: which.
        recipe: with its epochs and era.
        width_share: of the dense MACs, where widths are fixed from the beginning.
        steps: in an epoch.
    """
    shares = planned_shares(run, recipe, width_share)
    by_epoch = [shares(epoch) for epoch in range(recipe.epochs + 1)]
    gathered = 0.0
    if run.kind == THEIRS and run.parts[0] == "taylor":
        falls = [before for before, after in itertools.pairwise(by_epoch) if after < before]
        gathered = sum(falls) * min(GRADIENT_BATCHES, steps) / steps
    return sum(by_epoch[:-1]) + gathered


def recipe_of(run: Run, recipe: Recipe, budget: str, width_share: float, steps: int) -> Recipe:
    """Return the recipe of one run; with an equal compute its epochs and era are stretched as far as it reaches."""
    best = recipe
    if budget == "epochs" or run.method == DENSE:
        return best
    while True:
        longer = stretched(recipe, best.epochs + 1)
        if dense_epochs(run, longer, width_share, steps) > recipe.epochs + 1e-9:
            return best
        best = longer


def stretched(recipe: Recipe, epochs: int) -> Recipe:
    """Return a recipe over more epochs: its era is as much longer, and begins as much later."""
    start, end = (round(epoch * epochs / recipe.epochs) for epoch in recipe.era)
    return replace(recipe, epochs=epochs, era=(start, end))
