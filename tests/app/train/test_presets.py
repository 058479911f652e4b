"""The paper's recipes: complete, with a source for every value, overridable, and refused for other data."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from campfire_fx.app.train.data import Where, open_data
from campfire_fx.app.train.models import build_model
from campfire_fx.app.train.presets import PRESETS, preset
from campfire_fx.app.train.recipe import Recipe, recipe_for
from campfire_fx.base.errors import TrainError
from tests.app.train.test_folders import write_image

OF_TRAINED_WEIGHTS = {"interpolation", "fresh_rate"}  # they say it, not an option


def rates(name: str, epochs: list[int]) -> list[float]:
    recipe = recipe_for("x", named=preset(name).plain())
    return [recipe.rate_at(10 * epoch + 5, 10) for epoch in epochs]


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_has_an_origin_and_a_source(name: str) -> None:
    values = preset(name).values
    ours = {"drops", "warm_up", "nesterov", "distill"} | OF_TRAINED_WEIGHTS
    assert {field.name for field in fields(Recipe)} - ours <= values.keys()
    assert {"model", "regime", "sparsity", "networks"} <= values.keys()
    for entry in values.values():
        assert entry.origin in {"stated", "chosen", "inferred"} and len(entry.why) > 8


def test_the_numbers_are_the_papers() -> None:
    v1, v15, *large, tiny = (recipe_for("x", named=preset(name).plain()) for name in PRESETS)
    assert {(one.batch, one.rate, one.epochs, one.drops) for one in large} == {(256, 0.1, 100, (30, 60, 90))}
    assert [one.era for one in large] == [(30, 50), (40, 60), (40, 60)]
    assert [preset(name).plain()["regime"] for name in PRESETS if "-256-" in name] == ["ck", "window", "combined"]
    assert (tiny.image_size, tiny.resize, tiny.augment) == (224, 256, "crop")  # B.1: as on full ImageNet
    assert (v1.epochs, v1.batch, v1.optimizer, v1.momentum, v1.era) == (90, 128, "sgd", 0.9, (40, 60))
    assert (v15.epochs, v15.batch, v15.rate, v15.drops) == (100, 64, 0.05, (30, 60, 90))
    assert (tiny.epochs, tiny.batch, tiny.optimizer, tiny.decay, tiny.era) == (40, 64, "adam", 1e-4, (0, 10))
    assert (v1.image_size, v1.resize, v1.augment, v1.held_out, v1.nesterov) == (224, 256, "crop", 0.0, False)
    assert rates("resnet50-imagenet", [0, 29, 30, 59, 60, 89]) == pytest.approx([0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3])
    assert rates("resnet50-v1.5-imagenet", [0, 30, 60, 90]) == pytest.approx([0.05, 5e-3, 5e-4, 5e-5])
    assert rates("resnet50-tiny-imagenet", [0, 29, 30, 39]) == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])


def test_every_value_gives_way_to_its_option() -> None:
    given = {
        "epochs": 7, "batch": 3, "optimizer": "adamw", "rate": 0.3, "momentum": 0.5, "nesterov": True, "decay": 0.0,
        "warm_up": 0.5, "drops": (), "era": (1, 2), "augment": "none", "image_size": 9, "resize": 11, "held_out": 0.5,
        "precision": "bfloat16", "distill": 0.9,
    }  # fmt: skip
    assert given.keys() == {field.name for field in fields(Recipe)} - OF_TRAINED_WEIGHTS
    recipe = recipe_for("x", named=preset("resnet50-imagenet").plain(), **given)
    assert recipe == replace(Recipe(epochs=7), **given)


def test_fewer_epochs_need_an_era_of_their_own() -> None:
    with pytest.raises(TrainError, match="Era 40-60: it ends after the last of 10 epochs"):
        recipe_for("x", named=preset("resnet50-imagenet").plain(), epochs=10)


def test_unknown_recipes_are_named() -> None:
    with pytest.raises(TrainError, match="--recipe resnet18: there is no such recipe. Give one of resnet50-imagenet"):
        preset("resnet18")


def test_a_recipe_is_refused_for_another_data_set(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        write_image(tmp_path / name / "0.png")
    expected = r"Recipe r at .*: it is for 1,000 classes, the data have 2. Give its data set with --data, or drop"
    with pytest.raises(TrainError, match=expected):
        open_data(str(tmp_path), Where(classes=1000, recipe="r", streamed=True))


@pytest.mark.parametrize(
    ("field", "wrong", "known"),
    [
        ("optimizer", "lion", "sgd, adam, adamw"),
        ("augment", "mixup", "shift, crop, none"),
        ("precision", "int8", "float32, bfloat16"),
    ],
)
def test_unknown_choices_are_refused(field: str, wrong: str, known: str) -> None:
    with pytest.raises(TrainError, match=f"{wrong}: it is not known. Give one of {known}"):
        recipe_for("digits", **{field: wrong})


@pytest.mark.parametrize("wrong", [{"warm_up": 1.0}, {"held_out": -0.1}, {"momentum": 1.5}, {"decay": float("nan")}])
def test_shares_are_shares(wrong: dict[str, float]) -> None:
    with pytest.raises(TrainError, match=r"not a share in \[0, 1\)|no number from 0 up"):
        recipe_for("digits", **wrong)


def test_resnet50_v1_strides_in_the_first_convolution_of_a_block() -> None:
    network = build_model("resnet50-v1", classes=200, channels=3)
    weights = sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    assert weights == 23_864_512
    strides = [network.get_submodule(f"layer{n}.0.conv{c}").stride for n in (1, 2, 3, 4) for c in (1, 2)]
    assert strides == [(1, 1), (1, 1)] + 3 * [(2, 2), (1, 1)]
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 200)
