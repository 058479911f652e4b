"""Recipes: how a network is trained, as plain numbers, with a sensible one for each data set known by name."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from campfire_fx.errors import TrainError


@dataclass(frozen=True, slots=True)
class Recipe:
    """SGD with Nesterov momentum; the learning rate rises linearly, then falls along half a cosine to zero.

    Attributes:
        epochs: passes over the training images.
        batch: images per step.
        rate: highest learning rate.
        momentum: of SGD.
        decay: weight decay.
        warm_up: share of all steps in which the learning rate rises.
        era: (start, end) of the pruning era in epochs; sparse training only.
    """

    epochs: int
    batch: int = 64
    rate: float = 0.1
    momentum: float = 0.9
    decay: float = 5e-4
    warm_up: float = 0.15
    era: tuple[int, int] = (0, 1)

    def rate_at(self, progress: float) -> float:
        """Return the learning rate at a share of all steps, in [0, 1]."""
        if progress < self.warm_up:
            return self.rate * progress / self.warm_up
        return self.rate * 0.5 * (1 + math.cos(math.pi * (progress - self.warm_up) / (1 - self.warm_up)))


_RECIPES = {
    # A short run needs a strong decay: over few steps a weak one leaves every filter as it began.
    "digits": Recipe(epochs=40, batch=32, decay=0.04),
    "fashion-mnist": Recipe(epochs=6, batch=128),
}
_OTHER = Recipe(epochs=12, batch=128)


def recipe_for(
    data: str,
    *,
    epochs: int | None = None,
    era: tuple[int, int] | None = None,
    batch: int | None = None,
    rate: float | None = None,
    decay: float | None = None,
) -> Recipe:
    """Return the recipe of a data set, with other numbers where given.

    The era runs from a fifth to six tenths of the epochs, if not given: it starts on weights that mean something, and
    leaves the sparse network time to settle.

    Raises:
        TrainError: a number makes no sense.
    """
    usual = _RECIPES.get(data, _OTHER)
    recipe = replace(
        usual,
        epochs=usual.epochs if epochs is None else epochs,
        batch=usual.batch if batch is None else batch,
        rate=usual.rate if rate is None else rate,
        decay=usual.decay if decay is None else decay,
    )
    if recipe.epochs < 1 or recipe.batch < 1 or not recipe.rate > 0:
        raise TrainError(
            f"Recipe: epochs {recipe.epochs}, batch {recipe.batch} and learning rate {recipe.rate} must be positive."
            f" Give other numbers."
        )
    start = recipe.epochs // 5
    era = era or (start, max(start + 1, recipe.epochs * 3 // 5))
    if era[1] > recipe.epochs:
        raise TrainError(
            f"Era {era[0]}-{era[1]}: it ends after the last of {recipe.epochs} epochs. Give an earlier --era."
        )
    return replace(recipe, era=era)
