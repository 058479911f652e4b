"""Files of ultralytics: a YOLO comes in as a .pt file and goes out as one, with the slim network in its place."""

from __future__ import annotations

import copy
import importlib.util
import inspect
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint

from campfire_fx.base.disk.archive import reason
from campfire_fx.base.disk.foreign import Inert
from campfire_fx.base.disk.whole import write_whole
from campfire_fx.base.errors import TrainError

if TYPE_CHECKING:
    from collections.abc import Iterator

_IMAGE = 640  # side of the images, where a file says nothing
_SMALLEST = 32  # of a side: the coarsest grid of most of them
SUFFIX = ".pt"


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """A file of ultralytics, opened; a network of any of its tasks.

    Attributes:
        network: in evaluation mode and float32.
        content: what else the file holds, under its names.
        dtype: of the weights in the file.
        example: images like those that it was trained on, (1, C, H, W).
    """

    network: nn.Module
    content: Mapping[str, Any] = field(repr=False)
    dtype: torch.dtype
    example: Tensor


def is_detector(content: Mapping[str, Any]) -> bool:
    """Say whether a file's content, as `read_tensors` gives it, is a model of ultralytics."""
    return any(_class_of(value).startswith("ultralytics.") for value in content.values())


def _class_of(value: object) -> str:
    """Return the class of an object in a file; once ultralytics has opened one, torch knows its layers."""
    return value.named if isinstance(value, Inert) else type(value).__module__


def open_detector(path: Path, *, trust: bool = False) -> Detector:
    """Open a file of ultralytics.

    Layers of ultralytics and of torch are made; anything else that the file names is code that would run, and is
    refused.

    Args:
        path: of the file.
        trust: run whatever the file names.

    Raises:
        TrainError: ultralytics is not installed, or the file names more than its layers.
    """
    if importlib.util.find_spec("ultralytics") is None:
        raise TrainError(f"{path}: it is a model of ultralytics, which is not installed. Run pip install ultralytics.")
    from ultralytics.nn.tasks import torch_safe_load

    known = "safe_only" in inspect.signature(torch_safe_load).parameters
    if not (known or trust):
        raise TrainError(f"{path}: this version of ultralytics runs what a file names. If you trust it, give --trust.")
    try:
        with _quiet():
            content, _ = torch_safe_load(str(path), **({"safe_only": not trust} if known else {}))
    except Exception as error:  # whatever a file leads to
        if odd := _further_names(path):
            raise TrainError(
                f"{path}: beside layers of ultralytics and torch it names {', '.join(odd)}, which is code that would"
                " run. If you trust who made it, give --trust."
            ) from error
        raise TrainError(f"{path}: ultralytics cannot read it ({reason(error)}). Save it again.") from error
    network = content.get("ema") or content.get("model")
    if not isinstance(network, nn.Module):
        raise TrainError(f"{path}: there is no network of ultralytics in it. Give the .pt file of a training.")
    dtype = next((p.dtype for p in network.parameters()), torch.float32)
    network = network.float().eval().requires_grad_(True)
    held = {name: value for name, value in content.items() if name not in ("ema", "model", "optimizer")}
    return Detector(network, held, dtype, _example(network, held))


def write_detector(network: nn.Module, like: Detector, path: Path) -> Path:
    """Write a network as `YOLO(path)` reads it, with names, task and settings of the file that it comes from."""
    told = {name: like.content[name] for name in ("train_args", "date", "license", "docs") if name in like.content}
    stored = copy.deepcopy(network).to(like.dtype)
    content = {"epoch": -1, **told, "version": _version(), "model": stored, "ema": None, "optimizer": None}
    write_whole(path, lambda file: torch.save(content, file), TrainError)
    return path


def _example(network: nn.Module, content: Mapping[str, Any]) -> Tensor:
    described = getattr(network, "yaml", None) or {}
    given = (content.get("train_args") or {}).get("imgsz", _IMAGE)
    side = max(given) if isinstance(given, (list, tuple)) else int(given)
    return torch.rand(1, described.get("channels", described.get("ch", 3)), max(side, _SMALLEST), max(side, _SMALLEST))


def _version() -> str:
    from ultralytics import __version__

    return str(__version__)


def _further_names(path: Path) -> list[str]:
    """Return what a file names beside layers, as far as it is there."""
    names = get_unsafe_globals_in_checkpoint(str(path))
    return sorted(name for name in names if not name.startswith(("ultralytics.", "torch.nn.")))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what ultralytics says about other files out of results."""
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    LOGGER.setLevel("ERROR")
    try:
        yield
    finally:
        LOGGER.setLevel(level)
