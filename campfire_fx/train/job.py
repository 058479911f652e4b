"""The main job: dense, sparse, slim and slim-from-scratch by one recipe, exported, reloaded and compared."""

from __future__ import annotations

import copy
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from campfire_fx.api import sparsify
from campfire_fx.errors import TrainError
from campfire_fx.export import export, load
from campfire_fx.measure import latencies
from campfire_fx.model import SparseModel
from campfire_fx.report.numbers import percent
from campfire_fx.report.progress import progress
from campfire_fx.slim import SlimModel
from campfire_fx.train.checkpoint import SUFFIX, Checkpoint, save
from campfire_fx.train.data import ImageData
from campfire_fx.train.loop import Epoch, fit, outputs
from campfire_fx.train.models import build_model
from campfire_fx.train.networks import restart
from campfire_fx.train.outcome import LATENCY_BATCH, Outcome, Reloaded, Row, row_of
from campfire_fx.train.recipe import Recipe

Show = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What to train and where to put it.

    Attributes:
        model: name, as `build_model` takes it.
        regime, sparsity: as `sparsify` takes them; the era is the recipe's.
        residual: as `shrink` takes it.
        seed: of initial weights and of the order and augmentation of images, the same for every network.
        folder: for checkpoints and exported files.
    """

    model: str
    regime: str
    sparsity: float
    residual: str
    seed: int
    folder: Path


def run(settings: Settings, data: ImageData, recipe: Recipe, show: Show) -> Outcome:
    """Run the whole job. Every network gets the same recipe, seed and images; test images are used once, at the end.

    Args:
        settings: what to train.
        data: images in memory.
        recipe: how to train.
        show: called with each report as soon as there is one.
    """
    began = time.perf_counter()
    _make_folder(settings.folder)
    options = {"classes": len(data.classes), "channels": data.shape[0]}
    torch.manual_seed(settings.seed)
    dense = build_model(settings.model, **options)
    example = torch.randn(1, *data.shape)
    wishes: dict[str, Any] = {"regime": settings.regime, "sparsity": settings.sparsity, "era": recipe.era}
    sparse = sparsify(dense, example_inputs=example, **wishes)  # a copy: both start from the same weights

    for name, network in (("dense", dense), ("sparse", sparse)):
        show(_told(name, fit(network, data, recipe, seed=settings.seed, title=name)))
        saved = Checkpoint(
            settings.model, options, tuple(example.shape), wishes if network is sparse else None, network.state_dict()
        )
        save(saved, settings.folder / f"{name}{SUFFIX}")
    show(sparse.report())

    slim = sparse.eval().shrink(settings.residual)
    show(slim.report())
    reloaded = _export_and_reload(slim, data, settings.folder)
    scratch = _from_scratch(slim, settings.seed)
    show(_told("slim from scratch", fit(scratch, data, recipe, seed=settings.seed, title="slim from scratch")))

    networks = {"dense": dense, "sparse": sparse, "slim": slim, "slim from scratch": scratch}
    rows = _compare(networks, data, settings.folder)
    return _outcome(sparse, slim, rows, reloaded, time.perf_counter() - began)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainError(f"Output folder {folder}: it cannot be made ({error.strerror}). Give --output.") from error


def _told(name: str, epochs: tuple[Epoch, ...]) -> str:
    last, seconds = epochs[-1], sum(epoch.seconds for epoch in epochs)
    right = f"{percent(last.valid)} of the validation images right"
    return f"Trained {name} in {seconds:.0f} s: loss {last.loss:.4f}, {right}."


def _from_scratch(slim: SlimModel, seed: int) -> nn.Module:
    """Return the slim architecture with new weights, started as the dense network was."""
    scratch = copy.deepcopy(slim)
    torch.manual_seed(seed)
    return restart(scratch)


def _export_and_reload(slim: SlimModel, data: ImageData, folder: Path) -> tuple[Reloaded, ...]:
    """Export in every format whose packages are there, load each file and compare it on the test images."""
    names = ["slim.safetensors", "slim.pt2"]
    if all(importlib.util.find_spec(package) for package in ("onnx", "onnxscript", "onnxruntime")):
        names.append("slim.onnx")
    expected = outputs(slim, data.test, data)
    found = []
    with progress("Exporting", total=len(names)) as advance:
        for name in names:
            advance(0, name)
            found.append(_reload(export(slim, folder / name).path, expected, data))
            advance(1)
    return tuple(found)


def _reload(path: Path, expected: torch.Tensor, data: ImageData) -> Reloaded:
    found = outputs(load(path), data.test, data)
    difference = float((found - expected).abs().max() / expected.abs().max())
    same = int((found.argmax(1) == expected.argmax(1)).sum())
    return Reloaded(path.name, path.stat().st_size, difference, same, len(expected))


def _compare(networks: dict[str, nn.Module], data: ImageData, folder: Path) -> tuple[Row, ...]:
    times = latencies(networks, (torch.randn(LATENCY_BATCH, *data.shape),))
    rows = []
    for name, network in networks.items():
        network.eval()
        example = torch.randn(1, *data.shape)
        size = export(network, folder / f"{name.replace(' ', '-')}.safetensors", example).bytes
        right = int((outputs(network, data.test, data).argmax(1) == data.test.targets).sum())
        rows.append(row_of(network, example, times[name], name=name, right=right, images=len(data.test), size=size))
    return tuple(rows)


def _outcome(
    sparse: SparseModel, slim: SlimModel, rows: tuple[Row, ...], reloaded: tuple[Reloaded, ...], seconds: float
) -> Outcome:
    record = sparse.sparsity()
    assert slim.verification is not None  # shrink verifies unless told not to
    return Outcome(rows, reloaded, record.target, record.true, slim.verification.difference, seconds)
