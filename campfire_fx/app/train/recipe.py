"""Recipes: how a network is trained, as plain numbers, with a sensible one for each data set known by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from campfire_fx.base.errors import TrainError

OPTIMIZERS = ("sgd", "adam", "adamw")
AUGMENTATIONS = ("shift", "crop", "none")
PRECISIONS = ("float32", "bfloat16")
_LARGEST = 3e38  # about what float32 holds
_DROP = 0.1  # of the learning rate, at each drop
_TRAINED = 0.3  # of the highest learning rate, for trained weights: docs/training.md has what was measured


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: passes over the training images.
        batch: images per step, over all processes.
        optimizer: one of OPTIMIZERS.
        rate: highest learning rate.
        momentum: of SGD; beta1 of the other two.
        nesterov: of SGD.
        decay: weight decay.
        warm_up: share of all steps in which the learning rate rises, from zero.
        drops: epochs from which on the learning rate is a tenth of what it was; none: it falls along half a cosine.
        era: (start, end) of the pruning era in epochs; sparse training only.
        augment: "shift" (images in memory, moved by up to an eighth, and mirrored where that keeps the class), "crop"
            (images read as they are needed, a random cut of each, mirrored), or "none" (in memory).
        precision: that layers compute in while training, one of PRECISIONS; weights, masks and the optimizer stay in
            float32 (automatic mixed precision).
        image_size: side of what the network is given; None: the data set's own.
        resize: crop: shorter side before the centre of a test image is cut out; None: 8/7 of image_size.
        held_out: share of the training images that become the validation images; 0: the test images are both.
        interpolation: crop: how images are resized, a name of torchvision's InterpolationMode; None: bilinear.
        fresh_rate: highest learning rate of a network with new weights where the others have trained ones; None: rate.
        distill: how much of the loss is imitating the dense network, in (0, 1]; None: nothing.
    """

    epochs: int
    batch: int = 64
    optimizer: str = "sgd"
    rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    decay: float = 5e-4
    warm_up: float = 0.15
    drops: tuple[int, ...] = ()
    era: tuple[int, int] = (0, 1)
    augment: str = "shift"
    precision: str = "float32"
    image_size: int | None = None
    resize: int | None = None
    held_out: float = 0.1
    interpolation: str | None = None
    fresh_rate: float | None = None
    distill: float | None = None

    def for_new_weights(self) -> Recipe:
        """Return the recipe for a network with new weights."""
        return replace(self, rate=self.rate if self.fresh_rate is None else self.fresh_rate)

    def rate_at(self, step: int, per_epoch: int) -> float:
        """Return the learning rate of a step, counted from 0 over all epochs of so many steps."""
        progress = step / (self.epochs * per_epoch)
        if progress < self.warm_up:
            return self.rate * progress / self.warm_up
        if self.drops:
            return self.rate * _DROP ** sum(drop <= step // per_epoch for drop in self.drops)
        return self.rate * 0.5 * (1 + math.cos(math.pi * (progress - self.warm_up) / (1 - self.warm_up)))


_RECIPES = {
    # A short run needs a strong decay: over few steps a weak one leaves every filter as it began.
    "digits": Recipe(epochs=40, batch=32, decay=0.04),
    "fashion-mnist": Recipe(epochs=6, batch=128),
}
_OTHER = Recipe(epochs=12, batch=128)
_FIELDS = frozenset(field.name for field in fields(Recipe))


def recipe_for(
    data: str, *, named: dict[str, Any] | None = None, trained: Mapping[str, Any] | None = None, **given: Any
) -> Recipe:
    """Return the recipe of a data set, with other values where given.

    The era runs from a fifth to six tenths of the epochs, if not given: it starts on weights that mean something, and
    leaves the sparse network time to settle. Trained weights mean something at once: there it starts with the first
    epoch, and the highest learning rate is three tenths of what new weights get.

    Args:
        data: as `open_data` takes it.
        named: all values of a named recipe, instead of the data set's usual ones and those of trained weights.
        trained: of a run from trained weights, fields that say how images were given to them; None as if not known.
        given: fields of `Recipe`; None is as if not given.

    Raises:
        TrainError: a value makes no sense.
    """
    usual = _RECIPES.get(data, _OTHER) if named is None else Recipe(**{k: v for k, v in named.items() if k in _FIELDS})
    given = {name: value for name, value in given.items() if value is not None}
    if trained is not None and named is None:
        usual = _for_trained(usual, trained, given)
    recipe = replace(usual, **given)
    _check_numbers(recipe)
    if named is None and "resize" in given and recipe.augment != "crop":
        raise TrainError(f"--resize {recipe.resize}: it needs --augment crop. Give that too, or leave it out.")
    era = given.get("era") or _era(recipe, named, at_once=trained is not None)
    if era[1] > recipe.epochs:
        raise TrainError(
            f"Era {era[0]}-{era[1]}: it ends after the last of {recipe.epochs} epochs. Give an earlier --era."
        )
    return replace(recipe, era=era)


def _for_trained(usual: Recipe, trained: Mapping[str, Any], given: Mapping[str, Any]) -> Recipe:
    """Return the usual recipe as trained weights want it."""
    known = {name: value for name, value in trained.items() if value is not None}
    if "image_size" in given:
        known.pop("resize", None)  # it belongs to the other size
    fresh = None if "rate" in given else usual.rate
    return replace(usual, **known, rate=usual.rate * _TRAINED, fresh_rate=fresh)


def _era(recipe: Recipe, named: Mapping[str, Any] | None, *, at_once: bool) -> tuple[int, int]:
    if named is not None and named.get("era") is not None:
        return named["era"]
    start = 0 if at_once else recipe.epochs // 5
    return start, min(max(start + 1, recipe.epochs * 3 // 5), recipe.epochs - 1)  # one epoch is left to recover


def _check_numbers(recipe: Recipe) -> None:
    for option, count in {"--epochs": recipe.epochs, "--batch": recipe.batch, "--resize": recipe.resize}.items():
        if count is not None and count < 1:
            raise TrainError(f"{option} {count}: it is not a number from 1 up. Give another.")
    if not 0 < recipe.rate <= _LARGEST:
        raise TrainError(f"--learning-rate {recipe.rate}: it is not a positive number of float32. Give another.")
    shares = {"--warm-up": recipe.warm_up, "--held-out": recipe.held_out, "--momentum": recipe.momentum}
    for option, value in shares.items():
        if not 0 <= value < 1:
            raise TrainError(f"{option} {value}: it is not a share in [0, 1). Give another.")
    if not 0 <= recipe.decay <= _LARGEST:
        raise TrainError(f"--weight-decay {recipe.decay}: it is no number from 0 up that float32 holds. Give another.")
    if recipe.distill is not None and not 0 < recipe.distill <= 1:
        raise TrainError(f"--distill {recipe.distill}: it is not a share above 0, up to 1. Give another, as 0.9.")
    named = {
        "--optimizer": (recipe.optimizer, OPTIMIZERS),
        "--augment": (recipe.augment, AUGMENTATIONS),
        "--precision": (recipe.precision, PRECISIONS),
    }
    for option, (name, known) in named.items():
        if name not in known:
            raise TrainError(f"{option} {name}: it is not known. Give one of {', '.join(known)}.")
