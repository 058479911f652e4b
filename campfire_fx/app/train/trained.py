"""Trained weights that a run starts from: a checkpoint of `train`, a file of any tool, or torchvision's by name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from campfire_fx.app.libraries import timm, transformers
from campfire_fx.app.train.checkpoint import Checkpoint, checkpoint_of, is_checkpoint, read_tensors, trusted_model
from campfire_fx.app.train.networks import NETWORKS
from campfire_fx.app.train.published import Published, fetch, published, published_as, sha256_of, usual_images
from campfire_fx.app.train.recipe import Recipe
from campfire_fx.base.errors import TrainError

_SUFFIXES = frozenset({".bin", ".ckpt", ".pt", ".pth", ".safetensors", ".tar"})
_CROPPED: dict[str, Any] = {"image_size": 224, "augment": "crop"}
"""How images are given to weights of ImageNet, but for what is known better."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedWeights:
    """Trained weights, read.

    Attributes:
        source: the path of their file, or the name under which torchvision publishes them.
        sha256: of the file.
        content: what it holds, as `find_state` takes it.
        options: arguments that `build_model` needs for what was trained.
        mean: of each channel of the images that they know; None: not known.
        std: likewise.
    """

    source: str
    sha256: str
    content: Mapping[str, Any] = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run starts, found but perhaps not fetched.

    Attributes:
        model: its name, as `build_model` takes it.
        images: fields of a Recipe that say how images were given to the weights; None where that is not known.
        open: returns the weights; whether they may be downloaded is told.
        assumed: whether the weights do not say it, and `images` is what is usual for the model, if that is known.
    """

    model: str
    images: Mapping[str, Any]
    open: Callable[[bool], TrainedWeights]
    assumed: bool = False


def find_start(checkpoint: Path | None, weights: str | None, model: str | None, usual: str) -> Start | None:
    """Find the trained weights that a user names; None: there are none, and a run starts from new ones.

    Args:
        checkpoint: a dense one of `train`, which says what its model is.
        weights: such a checkpoint; a file that holds a state_dict in any form; or a name of torchvision's.
        model: as the user names it.
        usual: the model where neither the user nor a checkpoint names one.

    Raises:
        TrainError: both are given, there is no such file or name, or it holds something else, a sparse network among
            that.
    """
    if checkpoint is not None and weights is not None:
        raise TrainError("--from and --weights: both name weights to start from. Give one of them.")
    if checkpoint is not None:
        return _from_checkpoint(checkpoint, model)
    if weights is None:
        return None
    path = Path(weights)
    if path.suffix in _SUFFIXES or path.exists() or len(path.parts) > 1:
        return _from_file(path, model, usual)
    if (model or usual).startswith((timm.PREFIX, transformers.PREFIX)):
        return _of_library(model or usual, weights)
    found = published(model or usual, weights)
    return Start(found.model, _recipe_values(found.images), partial(_fetched, found))


def _from_checkpoint(path: Path, model: str | None) -> Start:
    content = _read(path, "--from")
    if not is_checkpoint(content):
        raise TrainError(f"--from {path}: it is no checkpoint of train. Give it as --weights, and its --model.")
    return _of_checkpoint(checkpoint_of(content, path), path, model)


def _from_file(path: Path, model: str | None, usual: str) -> Start:
    content = _read(path, "--weights")
    if is_checkpoint(content):
        return _of_checkpoint(checkpoint_of(content, path), path, model)
    name, sha256 = model or usual, sha256_of(path)
    known = published_as(name, path, sha256)
    if known is not None:
        weights = _of_published(known, str(path), sha256, content)
        return Start(name, _recipe_values(known.images), lambda _: weights)
    weights = TrainedWeights(str(path), sha256, content, _colour(name))
    return Start(name, _usual_images(name), lambda _: weights, assumed=True)


def _usual_images(model: str) -> dict[str, Any]:
    """Return how images are given to a model of torchvision, timm or transformers; nothing where it is of none."""
    if model.startswith((timm.PREFIX, transformers.PREFIX)):
        return dict(_of_library(model, "DEFAULT").images)
    if ":" in model or model in NETWORKS:
        return {}
    return _recipe_values(usual_images(model))


def _read(path: Path, option: str) -> dict[str, Any]:
    if path.is_dir():
        raise TrainError(f"{option} {path}: it is a folder. Give the file in it, as {path / 'dense.ckpt'}.")
    return read_tensors(path)


def _of_checkpoint(saved: Checkpoint, path: Path, model: str | None) -> Start:
    if saved.sparse is not None:
        raise TrainError(f"Weights at {path}: their network is sparse. Give the dense.ckpt of a run.")
    images = dict(saved.images or {})
    mean, std = images.pop("mean", None), images.pop("std", None)
    options = {name: value for name, value in saved.options.items() if name != "classes"}
    weights = TrainedWeights(str(path), sha256_of(path), saved.state, options, mean, std)
    height, width = saved.shape[-2:]
    return Start(
        trusted_model(saved, model), {"image_size": height if height == width else None, **images}, lambda _: weights
    )


def _of_library(model: str, weights: str) -> Start:
    """Find the weights that timm or transformers have for a model."""
    if weights != "DEFAULT":
        raise TrainError(f"--weights {weights}: there is no such file. Give one, or DEFAULT for those of {model}.")
    known = timm.images_of(model) if model.startswith(timm.PREFIX) else transformers.images_of(model)
    images = {name: value for name, value in known.items() if name in Recipe.__dataclass_fields__}
    return Start(model, _CROPPED | images, partial(_from_library, model, known))


def _from_library(model: str, known: Mapping[str, Any], download: bool) -> TrainedWeights:
    moments = known.get("mean"), known.get("std")
    if model.startswith(timm.PREFIX):
        content = timm.pretrained(model, download=download)
        return TrainedWeights(model, _digest(content), content, {"channels": 3}, *moments)
    path = transformers.pretrained(model, download=download)
    return TrainedWeights(str(path), sha256_of(path), read_tensors(path), {}, *moments)


def _digest(content: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(content):
        digest.update(name.encode() + content[name].detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _fetched(found: Published, download: bool) -> TrainedWeights:
    path = fetch(found, download=download)
    return _of_published(found, found.name, sha256_of(path), read_tensors(path))


def _of_published(found: Published, source: str, sha256: str, content: Mapping[str, Any]) -> TrainedWeights:
    options = {"channels": 3, **found.options}
    return TrainedWeights(source, sha256, found.state(content), options, found.images["mean"], found.images["std"])


def _recipe_values(images: Mapping[str, Any]) -> dict[str, Any]:
    return _CROPPED | {name: images[name] for name in ("image_size", "resize", "interpolation") if name in images}


def _colour(model: str) -> dict[str, int]:
    """Return what says that a model takes colour images, where it is known by its name: torchvision's are all so."""
    return {} if ":" in model or model in NETWORKS else {"channels": 3}
