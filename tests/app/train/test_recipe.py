"""Recipes: the learning rate rises, then falls to nothing; numbers that make no sense are refused."""

from __future__ import annotations

import pytest

from campfire_fx.app.train.presets import preset
from campfire_fx.app.train.recipe import Recipe, recipe_for
from campfire_fx.base.errors import TrainError


def test_rate_rises_and_falls() -> None:
    recipe = Recipe(epochs=1, rate=0.2, warm_up=0.25)
    found = [recipe.rate_at(step, 8) for step in (0, 1, 2, 5, 8)]
    assert found == pytest.approx([0, 0.1, 0.2, 0.1, 0])


def test_era_leaves_time_before_and_after() -> None:
    assert recipe_for("digits", epochs=40).era == (8, 24)
    assert recipe_for("digits", epochs=1).era == (0, 0)  # an epoch is left to recover
    assert recipe_for("digits", epochs=40, era=(2, 5)).era == (2, 5)


def test_given_numbers_win() -> None:
    recipe = recipe_for("fashion-mnist", rate=0.5, batch=7)
    assert (recipe.rate, recipe.batch, recipe.epochs) == (0.5, 7, recipe_for("fashion-mnist").epochs)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch": 0}, {"rate": 0.0}, {"rate": float("nan")}])
def test_numbers_must_be_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(TrainError, match="it is not a number from 1 up|it is not a positive number"):
        recipe_for("digits", **wrong)


def test_era_must_end_in_time() -> None:
    with pytest.raises(TrainError, match="ends after the last of 4 epochs"):
        recipe_for("digits", epochs=4, era=(2, 6))


def test_trained_weights_get_three_tenths_of_the_rate_and_an_era_that_begins_at_once() -> None:
    recipe = recipe_for("digits", epochs=40, trained={"image_size": 24, "resize": None})
    usual = recipe_for("digits", epochs=40)
    assert (recipe.rate, recipe.era, recipe.image_size) == (usual.rate * 0.3, (0, 24), 24)
    assert recipe.for_new_weights().rate == usual.rate == usual.for_new_weights().rate
    assert recipe.decay == usual.decay and recipe.batch == usual.batch


def test_given_numbers_win_over_those_of_trained_weights() -> None:
    images = {"image_size": 224, "resize": 232, "augment": "crop"}
    recipe = recipe_for("x", trained=images, rate=0.5, era=(2, 3), image_size=96)
    assert (recipe.rate, recipe.for_new_weights().rate, recipe.era) == (0.5, 0.5, (2, 3))
    assert (recipe.image_size, recipe.resize, recipe.augment) == (96, None, "crop")


def test_a_named_recipe_wins_too() -> None:
    named = preset("resnet50-imagenet").plain()
    assert recipe_for("x", named=named, trained={"image_size": 32}) == recipe_for("x", named=named)
