"""Networks to attack: those of a run folder, of a checkpoint, of an exported file, or a model with weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from campfire_fx.app.runs.folder import check_folder, read_results
from campfire_fx.app.train.batches import plain_batches
from campfire_fx.app.train.checkpoint import SUFFIX, load_state, read, read_tensors, restore
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.models import build_model
from campfire_fx.app.train.pictures import Chosen
from campfire_fx.app.train.streamed import Streamed
from campfire_fx.base.choices import Residual
from campfire_fx.base.errors import AttackError
from campfire_fx.export import load
from campfire_fx.training.model import SparseModel

_EXPORTED = (".safetensors", ".pt", ".pth", ".pt2")
_SCRATCH = "slim from scratch"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How sources are to be read.

    Attributes:
        model: package.module:factory of checkpoints whose model is the user's own code; that code is run.
        weights: state_dict for sources that name a model.
        options: arguments of such a model.
    """

    model: str | None = None
    weights: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def run_folder_of(sources: Sequence[str]) -> Path | None:
    """Return the run folder that one of the sources is, or lies in; None where there is none."""
    for source in map(Path, sources):
        if source.is_dir():
            return source
        if source.is_file():
            return source.parent
    return None


def networks_of(sources: Sequence[str], data: ImageData, wanted: Wanted) -> dict[str, nn.Module]:
    """Build the networks that sources stand for, by name, in evaluation mode.

    A folder is a run's: dense, sparse, slim and slim from scratch, as far as it has them. A sparse checkpoint gives
    the slim network, too; it is shrunk here, and proven. Else a source is an exported file, whose code is run, or the
    name of a model.

    Raises:
        AttackError: a source cannot be attacked, or was made for other images.
        CampfireError: a source cannot be read.
    """
    found: dict[str, nn.Module] = {}
    for source in sources:
        for name, network in _networks(source, data, wanted):
            shown = name if name not in found else f"{name} of {source}"
            found[shown] = network.eval()
    return found


def _networks(source: str, data: ImageData, wanted: Wanted) -> Iterator[tuple[str, nn.Module]]:
    path = Path(source)
    if path.is_dir():
        yield from _of_folder(path, data, wanted)
    elif path.suffix == SUFFIX:
        yield from _of_checkpoint(path, data, wanted)
    elif path.suffix in _EXPORTED and path.exists():
        yield path.stem, _exported(path)
    elif path.suffix == ".onnx":
        raise AttackError(f"{source}: an .onnx file gives no gradients. Give the model that it was made from.")
    else:
        yield source, _of_name(source, data, wanted)


def _of_folder(folder: Path, data: ImageData, wanted: Wanted) -> Iterator[tuple[str, nn.Module]]:
    check_folder(folder)
    residual = read_results(folder).get("settings", {}).get("residual", "union")
    for stem in ("dense", "sparse"):
        path = folder / f"{stem}{SUFFIX}"
        if path.exists():
            yield from _of_checkpoint(path, data, wanted, residual)
    scratch = folder / f"{_SCRATCH.replace(' ', '-')}.safetensors"
    if scratch.exists():
        yield _SCRATCH, _exported(scratch)


def _of_checkpoint(
    path: Path, data: ImageData, wanted: Wanted, residual: Residual = "union"
) -> Iterator[tuple[str, nn.Module]]:
    saved = read(path)
    if tuple(saved.shape[1:]) != data.shape:
        made, given = ("x".join(map(str, shape)) for shape in (saved.shape[1:], data.shape))
        raise AttackError(
            f"{path}: it was made for images of {made}, those of {data.name} are {given}. Give the --data and"
            f" --image-size that it was trained with."
        )
    network = restore(saved, wanted.model)
    yield path.stem, network
    if isinstance(network, SparseModel):
        yield "slim" if path.stem == "sparse" else f"{path.stem}, slim", network.shrink(residual)


def _exported(path: Path) -> nn.Module:
    network = load(path)
    if not isinstance(network, nn.Module):
        raise AttackError(f"{path}: it can only be run, and gives no gradients. Give the model that it was made from.")
    return network


def _of_name(name: str, data: ImageData, wanted: Wanted) -> nn.Module:
    if wanted.weights is None and ":" not in name:
        raise AttackError(f"{name}: its weights are untrained, so there is nothing to attack. Give --weights.")
    options = {"classes": len(data.classes), "channels": data.shape[0]} | dict(wanted.options)
    network = build_model(name, **options)
    if wanted.weights is not None:
        load_state(network, read_tensors(wanted.weights), name)
    return network


def raw_batches(
    data: ImageData, which: Literal["test", "valid"], images: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images float32 (N, C, H, W) in [0, 1], classes (N,)) of a split, as they are before the normalisation.

    Args:
        data: what `plain_batches` normalises.
        which: of its splits.
        images: take only so many, spread evenly over the split: folders come sorted by class.
    """
    split = data.test if which == "test" else data.valid
    n = len(split) if images is None else min(images, len(split))
    rows = torch.arange(n) * len(split) // max(n, 1)
    if isinstance(split, Streamed):  # the others need not be read
        split, rows = replace(split, pictures=Chosen(split.pictures, tuple(rows.tolist()))), torch.arange(n)
    wanted = torch.zeros(len(split), dtype=torch.bool)
    wanted[rows] = True
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))
    at = 0
    for seen, targets in plain_batches(split, data):
        chosen = wanted[at : at + len(targets)]
        at += len(targets)
        if bool(chosen.any()):
            # Images have 8 bits, so that rounding gives back exactly what was normalised.
            raw = ((seen[chosen] * std + mean) * 255).round().clamp(0, 255) / 255
            yield raw, targets[chosen]
