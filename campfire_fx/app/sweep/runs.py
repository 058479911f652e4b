"""The trainings of a sweep as runs of `campfire-fx train`: their names, folders and options, and what came of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from campfire_fx.app.runs.folder import read_results
from campfire_fx.app.runs.verdict import FORMERLY
from campfire_fx.app.sweep.grid import Point, label
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.first import first_network
from campfire_fx.app.train.job import JobSettings
from campfire_fx.app.train.recipe import Recipe
from campfire_fx.app.train.trained import TrainedWeights
from campfire_fx.base.errors import TrainError
from campfire_fx.training.sparsify import sparsify

RUNS = "runs"  # the folder of runs in that of the sweep


class Training(Protocol):
    """What options of `campfire-fx train` ask for, as far as a sweep wants to know."""

    @property
    def data(self) -> str:
        """As `open_data` takes it."""

    @property
    def recipe(self) -> Recipe:
        """How to train."""

    @property
    def settings(self) -> JobSettings:
        """What to train."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training of a sweep.

    Attributes:
        point: what is particular to it, with every value named.
        folder: where `campfire-fx train` writes.
        arguments: what `campfire-fx` is told.
        facts: what its results must say of how they came about, if they are of this run.
    """

    point: Point
    folder: Path
    arguments: tuple[str, ...]
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What its folder is called; no other run of a sweep is called so."""
        return self.folder.name

    @property
    def finished(self) -> bool:
        """Whether there are results."""
        return bool(read_results(self.folder))

    def results(self) -> dict[str, Any]:
        """Return what the training wrote; empty where it has not finished.

        Raises:
            TrainError: they are of a training with other options, so that they cannot stand beside the others.
        """
        results = read_results(self.folder)
        if results:
            self._check(results.get("settings", {}))
        return results

    def _check(self, theirs: Mapping[str, Any]) -> None:
        recipe = dict(theirs.get("recipe", {}))
        if self.point.regime is None:
            recipe.pop("era", None)  # a dense training has none
        found, mine = {"sparsify": theirs.get(FORMERLY), **theirs, **recipe}, {**self.facts, **self.facts["recipe"]}
        for key, value in mine.items():
            if key != "recipe" and found.get(key) != value:
                raise TrainError(
                    f"Run at {self.folder}: its {key.replace('_', ' ')} was {found.get(key)!r}, this sweep has"
                    f" {value!r}. Give the same options, or another --output."
                )


def runs_of(
    points: Sequence[Point],
    common: Sequence[str],
    folder: Path,
    plan: Callable[[Sequence[str]], Training],
    *,
    from_scratch: bool = False,
) -> tuple[Run, ...]:
    """Return a run for each point, each once, though points may be the same where the recipe fills them in.

    Args:
        points: what to train.
        common: options of `campfire-fx train` that all have.
        folder: of the sweep.
        plan: returns what options ask for, or raises an error that says what is wrong with them.
        from_scratch: train the slim widths of every sparse network from new weights, too.
    """
    found: dict[str, Run] = {}
    for point in points:
        networks = "dense" if point.regime is None else "no-dense" if from_scratch else "sparse"
        options = [*common, *point.options, "--networks", networks, "--formats", "safetensors"]
        training = plan(options)
        recipe, settings = training.recipe, training.settings
        whole = replace(point, era=recipe.era if point.regime else None, rate=recipe.rate, drops=recipe.drops)
        own = folder / RUNS / _name(whole)
        arguments = ("train", *options, "--resume", "auto", "--output", str(own))
        found.setdefault(own.name, Run(whole, own, arguments, _facts(whole, training.data, settings, recipe)))
    return tuple(found.values())


def _name(point: Point) -> str:
    parts = [label(point, era=False).replace(" %", "").replace(":", "of").replace(" ", "-")]
    if point.era is not None:
        parts.append(f"era-{point.era[0]}-{point.era[1]}")
    assert point.rate is not None and point.drops is not None  # the recipe has filled them in
    parts += [f"rate-{point.rate:g}", "drops-" + "-".join(map(str, point.drops)) if point.drops else "cosine"]
    return "-".join([*parts, f"seed-{point.seed}"])


def _facts(point: Point, data: str, settings: JobSettings, recipe: Recipe) -> dict[str, Any]:
    own = asdict(recipe)
    facts = {"data": data, "model": settings.model, "seed": settings.seed, "networks": settings.networks}
    if point.regime is None:
        own.pop("era")
    else:
        facts |= {"regime": settings.regime, "sparsity": settings.sparsity, "sparsify": settings.arguments}
    plain: dict[str, Any] = json.loads(json.dumps({**facts, "recipe": own}))
    return plain


def check_regimes(
    runs: Sequence[Run], settings: JobSettings, data: ImageData, trained: TrainedWeights | None = None
) -> None:
    """Put masks on the network once for every regime, at its highest sparsity: what cannot be trained is said now.

    Raises:
        CampfireError: there is no such model, or a regime does not fit it.
    """
    first = first_network(settings.model, data, settings.seed, trained)
    example = torch.randn(1, *first.data.shape)
    highest: dict[str, Point] = {}
    for run in runs:
        point = run.point
        if point.regime is not None and point.sparsity >= highest.get(point.regime, point).sparsity:
            highest[point.regime] = point
    for regime, point in highest.items():
        assert point.era is not None  # the recipe has filled it in
        sparsify(
            first.network, regime, sparsity=point.sparsity, era=point.era, example_inputs=example, **settings.arguments
        )
