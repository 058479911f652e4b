"""Weights that torchvision publishes: their files, and how images were given to them."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch

from campfire_fx.base.disk.archive import reason
from campfire_fx.base.errors import TrainError

_NO_AUXILIARY = {"aux_logits": False, "transform_input": True}
_OPTIONS: Mapping[str, Mapping[str, bool]] = {"googlenet": _NO_AUXILIARY, "inception_v3": _NO_AUXILIARY}
"""What torchvision builds otherwise with weights than without: these two normalise images themselves."""
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_FORMER_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)")
_HASH = re.compile(r"-([0-9a-f]{8,})\.[^.]*$")


@dataclass(frozen=True, slots=True)
class Published:
    """Weights of an image classifier.

    Attributes:
        model: the network, as `build_model` takes it.
        name: of the weights, as ResNet18_Weights.IMAGENET1K_V1.
        url: of their file.
        images: how images are given to them: image_size, resize, interpolation, mean, std.
        options: further arguments of `build_model`.
    """

    model: str
    name: str
    url: str
    images: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]

    def state(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Return the state_dict in the file under the names of today's torchvision, without auxiliary classifiers."""
        kept = {key: value for key, value in content.items() if not (self.options and key.startswith(_AUXILIARY))}
        return {_FORMER_DENSENET.sub(r"\1\2", key): value for key, value in kept.items()}


def published(model: str, name: str) -> Published:
    """Return the weights of a torchvision model by their name: DEFAULT, IMAGENET1K_V1, ResNet18_Weights.DEFAULT.

    Raises:
        TrainError: there are none, or they are not those of a classifier of images.
    """
    entries = _entries(model)
    if not entries:
        raise TrainError(
            f"--weights {name}: torchvision has no weights of {model}. Give a file, or --model with another model of"
            f" torchvision."
        )
    short = name.rpartition(".")[2]
    if short not in entries:
        raise TrainError(
            f"--weights {name}: {model} has none of that name. Give a file, or one of {', '.join(entries)}."
        )
    found = _of_entry(model, entries[short])
    if found is None:
        raise TrainError(f"--weights {name}: {model} does not classify images. Give a network that does.")
    return found


def published_as(model: str, path: Path, sha256: str) -> Published | None:
    """Return the weights that a file holds, if it is one that torchvision publishes for the model."""
    for entry in _entries(model).values():
        found = _of_entry(model, entry)
        if found is not None and found.file == path.name and _is_whole(found, sha256):
            return found
    return None


def usual_images(model: str) -> Mapping[str, Any]:
    """Return how images are given to a model: as to the weights that torchvision has for it, if there are any."""
    entry = _entries(model).get("DEFAULT")
    found = None if entry is None else _of_entry(model, entry)
    return {} if found is None else found.images


def fetch(weights: Published, *, download: bool) -> Path:
    """Return where the file of weights lies: in the folder of torch.hub, where torchvision has put it or will look.

    Raises:
        TrainError: it is not there and may not be downloaded, cannot be, or is not what was published.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.file
    if not path.exists():
        if not download:
            raise TrainError(
                f"Weights {weights.name}: they are not at {path}. Give --download, or put there"
                f" the file from {weights.url}."
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(weights.url, str(path), _hash(weights))
        except (OSError, RuntimeError, HTTPException) as error:
            raise TrainError(
                f"Weights {weights.name}: {weights.url} cannot be downloaded ({reason(error)}). Put its file at {path}."
            ) from error
    if not _is_whole(weights, sha256_of(path)):
        raise TrainError(f"Weights {weights.name} at {path}: the file is damaged. Remove it, and give --download.")
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _entries(model: str) -> dict[str, Any]:
    """Return the weights of a model by their names, DEFAULT among them; none where torchvision has none."""
    if importlib.util.find_spec("torchvision") is None:
        return {}
    from torchvision import models

    try:
        return dict(models.get_model_weights(model).__members__)
    except ValueError:
        return {}


def _of_entry(model: str, entry: Any) -> Published | None:
    transforms = entry.transforms()
    if type(transforms).__name__ != "ImageClassification" or entry.meta.get("backend") is not None:
        return None
    images = {
        "image_size": transforms.crop_size[0],
        "resize": transforms.resize_size[0],
        "interpolation": transforms.interpolation.value,
        "mean": tuple(transforms.mean),
        "std": tuple(transforms.std),
    }
    return Published(model, repr(entry), entry.url, images, _OPTIONS.get(model, {}))


def _hash(weights: Published) -> str | None:
    found = _HASH.search(weights.file)
    return found[1] if found else None


def _is_whole(weights: Published, sha256: str) -> bool:
    """Say whether a file's SHA-256 begins as the name of the file says."""
    return sha256.startswith(_hash(weights) or "")
