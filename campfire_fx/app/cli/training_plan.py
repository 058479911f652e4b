"""What the options of `campfire-fx train` ask for: recipe, settings, data and machine, checked before data are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import typer

from campfire_fx.app.cli.assignments import SETTINGS, sparsify_arguments
from campfire_fx.app.cli.terminal import epochs_listed, era_span, model_options
from campfire_fx.app.train.checkpoint_manager import every
from campfire_fx.app.train.data import Where, can_stream
from campfire_fx.app.train.job import JobSettings
from campfire_fx.app.train.presets import Preset, preset
from campfire_fx.app.train.recipe import Recipe, recipe_for
from campfire_fx.app.train.trackers import check_trackers
from campfire_fx.app.train.trained import Start, find_start
from campfire_fx.export.formats import FORMATS, format_named
from campfire_fx.training.sparsify import check_settings

MODEL, REGIME, SPARSITY, NETWORKS = "resnet8", "combined", 0.7, "all"
_AS_THEY_ARE = (
    "epochs", "batch", "optimizer", "warm_up", "momentum", "nesterov", "precision", "augment", "image_size", "resize",
    "held_out", "distill",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Machine:
    """What computes: "auto", "cpu" or "cuda"; how many processes read, and threads; None: as many as are useful."""

    device: str = "auto"
    workers: int | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """A training that can begin: see the modules of its parts; `given` are the options that it was made from."""

    data: str
    where: Where
    recipe: Recipe
    settings: JobSettings
    machine: Machine
    start: Start | None = None
    given: Mapping[str, Any] = field(default_factory=dict)


def planned(given: Mapping[str, Any], *, whole: bool = True) -> Planned:
    """Return what a training would be.

    Args:
        given: the options by the names of `train_command`'s parameters; None where one is not given.
        whole: check the regime's settings and the formats; they may be meant for another regime where that is to come.

    Raises:
        CampfireError: a value makes no sense.
    """
    named = preset(given["recipe"]) if given["recipe"] else None
    values = named.plain() if named else {}
    start = find_start(given["start_from"], given["weights"], given["model"], values.get("model", MODEL))
    recipe = recipe_for(
        given["data"],
        named=values if named else None,
        trained=_images_of(start, given["data"]),
        era=era_span(given["era"]),
        rate=given["learning_rate"],
        drops=epochs_listed(given["drops"]),
        decay=given["weight_decay"],
        **{name: given[name] for name in _AS_THEY_ARE},
    )
    settings = _settings(given, values, start)
    _check_teacher(recipe, settings.networks, start)
    if whole:
        _check(settings, recipe)
    return Planned(
        given["data"],
        _where(given, recipe, named),
        recipe,
        settings,
        Machine(given["device"], given["workers"], given["threads"]),
        start,
        dict(given),
    )


def _check(settings: JobSettings, recipe: Recipe) -> None:
    """Raise what would be raised later whatever the data and the model are."""
    if settings.networks != "dense":
        check_settings(settings.regime, sparsity=settings.sparsity, era=recipe.era, **settings.arguments)
    for suffix in settings.formats or ():
        FORMATS[f".{suffix}"].require_packages(suffix)
    check_trackers(settings.trackers)


def _check_teacher(recipe: Recipe, networks: str, start: Start | None) -> None:
    if recipe.distill is None or networks == "all" or (start is not None and networks != "dense"):
        return
    raise typer.BadParameter(
        "--distill: the dense network teaches the sparse one. Train both (--networks all), or start from trained"
        " weights (--from, --weights)."
    )


def _resume(given: Mapping[str, Any]) -> str | None:
    if given["overwrite"] and given["resume"] == "auto":
        raise typer.BadParameter("--overwrite and --resume auto: one replaces a run, one goes on with it. Give one.")
    return "never" if given["overwrite"] else given["resume"]


def _where(given: Mapping[str, Any], recipe: Recipe, named: Preset | None) -> Where:
    where = Where(
        given["data_root"],
        recipe.image_size,
        given["download"],
        recipe.augment == "crop",
        recipe.resize,
        recipe.interpolation,
        recipe.held_out,
        given["strict"],
    )
    return replace(where, classes=named.classes, recipe=given["recipe"]) if named else where


def _settings(given: Mapping[str, Any], values: Mapping[str, Any], start: Start | None) -> JobSettings:
    model = start.model if start else given["model"] or values.get("model", MODEL)
    sparsity, formats, target = given["sparsity"], given["formats"], given["target"]
    return JobSettings(
        model,
        given["regime"] or ("channel" if target else values.get("regime", REGIME)),
        values.get("sparsity", SPARSITY) if sparsity is None else sparsity,
        given["residual"],
        given["seed"],
        given["output"] or Path("runs") / Path(given["data"]).name,
        given["networks"] or values.get("networks", NETWORKS),
        tuple(dict.fromkeys(map(format_named, formats.split(",")))) if formats else None,
        _resume(given),
        every(given["checkpoint_every"]),
        tuple(dict.fromkeys(given["tracker"] or ())),
        given["data_root"],
        {name: values[name] for name in SETTINGS if name in values}
        | sparsify_arguments(given["setting"] or (), given["override"] or (), target or ()),
        given["reconfigure"],
        options=model_options(given["option"]),
        freeze=tuple(dict.fromkeys(given["freeze"] or ())),
    )


def _images_of(start: Start | None, data: str) -> dict[str, Any] | None:
    """Return how images were given to the weights that a run starts from, as far as the data allow it."""
    if start is None:
        return None
    if start.assumed and not can_stream(data):
        return {}  # small images at hand, which the weights may well be for
    crops = start.images.get("augment") == "crop" and not can_stream(data)
    return {**start.images, "augment": None} if crops else dict(start.images)
