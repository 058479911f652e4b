"""Sweeps without trainings: runs whose results are written by hand, so that what is made of them can be checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from campfire_fx.app.cli.sweeping_run import plan
from campfire_fx.app.sweep.grid import Point
from campfire_fx.app.sweep.runs import Run, runs_of
from campfire_fx.app.train.tally import pack

IMAGES = 400


def runs(points: Sequence[Point], folder: Path, epochs: int = 8) -> tuple[Run, ...]:
    return runs_of(points, ["--data", "digits", "--epochs", str(epochs)], folder, plan)


def finish(run: Run, right: int, valid: Sequence[float] = ()) -> None:
    """Write what a training leaves behind whose network is right on the first so many images."""
    flags = torch.arange(IMAGES) < right
    row = {"right": right, "images": IMAGES, "accuracy": right / IMAGES, "which": pack(flags), "parameters": 78_000,
           "nonzero": 30_000, "macs": 3_000_000, "latency_ms": 5.0, "bytes": 300_000}  # fmt: skip
    names = ("dense",) if run.point.regime is None else ("sparse", "slim")
    facts = dict(run.facts)
    run.folder.mkdir(parents=True, exist_ok=True)
    results = {"rows": [row | {"name": name} for name in names], "sparsity": run.point.sparsity or None,
               "seconds": 60.0, "settings": facts | {"recipe": {"era": run.point.era, **facts["recipe"]}}}  # fmt: skip
    results["settings"]["recipe"]["era"] = list(run.point.era or (0, 1))
    (run.folder / "results.json").write_text(json.dumps(results))
    lines = ["network,epoch,valid_accuracy", *(f"{names[0]},{epoch},{value}" for epoch, value in enumerate(valid))]
    (run.folder / "log.csv").write_text("\n".join(lines) + "\n")


def finished(points: Sequence[Point], folder: Path, right: Callable[[Point], int], epochs: int = 8) -> tuple[Run, ...]:
    made = runs(points, folder, epochs)
    for run in made:
        finish(run, right(run.point), [0.1 * (epoch + 1) for epoch in range(epochs)])
    return made
