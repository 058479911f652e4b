"""Image models of Hugging Face transformers: a folder of `save_pretrained`, or the name of one that is in the cache."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.base.disk.archive import reason
from campfire_fx.base.errors import TrainError
from campfire_fx.base.hints import install_command

PREFIX = "hf:"
_CONFIG = "config.json"
_FACTS = {"classes": "num_labels", "channels": "num_channels"}


def _of_images(model: Any) -> nn.Module:
    """Let a model of transformers take images alone, and give the scores of classes, or else its tensors in a tuple.

    Names of weights stay as they are. What the model itself gives is an object that only transformers knows.
    """
    cls = type(model)

    def forward(self: Any, x: Tensor) -> Any:
        result = cls.forward(self, pixel_values=x)
        return result.logits if hasattr(result, "logits") else result.to_tuple()

    model.__class__ = type(cls.__name__, (cls,), {"forward": forward, "__module__": cls.__module__})
    return model


def is_folder(path: Path) -> bool:
    """Say whether a folder is one that `save_pretrained` wrote."""
    return (path / _CONFIG).is_file()


def open_folder(path: Path) -> tuple[nn.Module, tuple[Tensor]]:
    """Load the image model of a folder, made to take images alone, and return it with an example of them.

    No code in the folder is run.

    Raises:
        TrainError: transformers is not installed, or there is no model for images that it knows.
    """
    transformers = _transformers(f"{path}: it is a model of transformers, which")
    try:
        described = json.loads((path / _CONFIG).read_text(encoding="utf-8"))
        named = next(
            (name for name in described.get("architectures") or () if hasattr(transformers, name)), "AutoModel"
        )
        network = getattr(transformers, named).from_pretrained(path, local_files_only=True).float().eval()
    except Exception as error:  # whatever a folder leads to
        raise TrainError(f"{path}: transformers cannot load it ({reason(error)}). Save it again.") from error
    if getattr(network, "main_input_name", "") != "pixel_values":
        raise TrainError(f"{path}: {type(network).__name__} does not read images. Give a network that does.")
    return _of_images(network), (torch.randn(1, *_image(network, described)),)


def build(name: str, asked: Mapping[str, Any], known: Mapping[str, Any]) -> nn.Module:
    """Return a classifier of images by the name "hf:FOLDER" or "hf:owner/name", with new weights.

    Args:
        name: of a folder, or of a model in the cache of the hub, of which only the description is read.
        asked: fields of its configuration, as `embedding_size`.
        known: "classes" and "channels" of the images, where they are known.

    Raises:
        TrainError: transformers is not installed, there is no such model, or it has no such option.
    """
    transformers = _transformers(f"MODEL {name}: it is one of transformers, which")
    facts = {own: known[fact] for fact, own in _FACTS.items() if fact in known}
    try:
        config, unused = transformers.AutoConfig.from_pretrained(
            name.removeprefix(PREFIX), local_files_only=True, return_unused_kwargs=True, **facts, **asked
        )
        if unused:
            raise TrainError(f"MODEL {name}: its configuration has no '{next(iter(unused))}'. Leave it out.")
        return _of_images(transformers.AutoModelForImageClassification.from_config(config))
    except TrainError:
        raise
    except Exception as error:  # whatever a description leads to
        raise TrainError(
            f"MODEL {name}: transformers cannot build a classifier of images from it ({reason(error)}). Give a folder"
            " of save_pretrained, or fetch it first: hf download OWNER/NAME."
        ) from error


def pretrained(name: str, *, download: bool) -> Path:
    """Return the file of the weights that belong to "hf:FOLDER" or "hf:owner/name".

    Raises:
        TrainError: they are not there and may not be downloaded, or cannot be.
    """
    found = _file(name, "model.safetensors", download=download)
    if found is None:
        advice = "" if download else " Give --download, or their file."
        raise TrainError(f"Weights of {name}: there is no model.safetensors of it here.{advice}")
    return found


def images_of(name: str) -> dict[str, Any]:
    """Return how images were given to the weights (image_size, mean, std), as far as its own files here say it."""
    found = _file(name, "preprocessor_config.json", download=False)
    if found is None:
        return {}
    told = json.loads(found.read_text(encoding="utf-8"))
    size = told.get("size")
    sides = [size.get("shortest_edge"), size.get("height")] if isinstance(size, dict) else [size]
    known = {
        "image_size": next(filter(None, sides), None),
        "mean": told.get("image_mean"),
        "std": told.get("image_std"),
    }
    return {key: tuple(value) if isinstance(value, list) else value for key, value in known.items() if value}


def _file(name: str, file: str, *, download: bool) -> Path | None:
    _transformers(f"MODEL {name}: it is one of transformers, which")
    from transformers.utils import cached_file

    try:
        found = cached_file(name.removeprefix(PREFIX), file, local_files_only=not download)
    except OSError:
        return None
    return None if found is None else Path(found)


def _transformers(what: str) -> Any:
    if importlib.util.find_spec("transformers") is None:
        raise TrainError(f"{what} is not installed. Run {install_command('transformers')}.")
    import transformers

    return transformers


def _image(network: Any, described: Mapping[str, Any]) -> tuple[int, int, int]:
    size = described.get("image_size") or 224
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return int(getattr(network.config, "num_channels", 3)), int(height), int(width)
