"""The network that a file given to a command holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import typer
from torch import nn

from campfire_fx.app.libraries.pickled import is_whole, whole_model
from campfire_fx.app.libraries.transformers import is_folder, open_folder
from campfire_fx.app.libraries.ultralytics import SUFFIX, Detector, is_detector, open_detector
from campfire_fx.app.train.checkpoint import checkpoint_of, is_checkpoint, load_state, read_tensors, restore
from campfire_fx.app.train.models import build_model
from campfire_fx.base.errors import ExportError
from campfire_fx.capture.from_onnx.read import read_onnx
from campfire_fx.export import is_exported, load

Inputs = tuple[torch.Tensor, ...] | None


def network_of(
    checkpoint: Path, model: str | None, options: dict[str, Any], *, trust: bool = False
) -> tuple[nn.Module, Inputs]:
    """Build the model of a file, and an example input where that knows its shape.

    Args:
        checkpoint: of `train`, an .onnx file, a .pt file of ultralytics, a folder of transformers, or any file that
            holds a state_dict or a whole model.
        model: of a state_dict; or the user's own code that a checkpoint names.
        options: arguments of the model of a state_dict.
        trust: run the code that a file names, as a whole model needs it.
    """
    if checkpoint.suffix.lower() == ".onnx":
        _refuse(checkpoint, model, options)
        read = read_onnx(checkpoint)
        return read, read.example[0]
    if is_folder(checkpoint):
        _refuse(checkpoint, model, options)
        return open_folder(checkpoint)
    content = read_tensors(checkpoint)
    if is_detector(content) and model is None:
        detector = open_detector(checkpoint, trust=trust)
        return detector.network, (detector.example,)
    if model is None and not is_checkpoint(content) and (trust or is_whole(checkpoint)):
        return whole_model(checkpoint, trust=trust), None
    if is_checkpoint(content) or model is None:
        saved = checkpoint_of(content, checkpoint)
        _refuse(checkpoint, None, options)
        return restore(saved, model), (torch.randn(saved.shape),)
    network = build_model(model, options)
    load_state(network, content, model)
    return network.eval(), None


def detector_at(path: Path, *, trust: bool) -> Detector | None:
    """Open a file of ultralytics; None where it is something else."""
    if path.suffix.lower() != SUFFIX or is_exported(path) or not is_detector(read_tensors(path)):
        return None
    return open_detector(path, trust=trust)


def source_network(
    source: Path,
    doing: str,
    model: str | None,
    options: dict[str, Any],
    *,
    trust: bool = False,
    detector: Detector | None = None,
) -> tuple[nn.Module, Inputs]:
    """Load a file of `export` whose model can be worked on, or what else `network_of` takes.

    Args:
        source: the file.
        doing: what is done with it, for errors.
        model: see `network_of`; so is the next.
        options: see there.
        trust: see there.
        detector: the file, opened already.
    """
    if detector is not None:
        return detector.network, (detector.example,)
    if source.suffix.lower() == ".onnx" or not is_exported(source):
        return network_of(source, model, options, trust=trust)
    if source.suffix.lower() not in (".safetensors", ".pt", ".pth"):
        _refuse(source, model, options)
    network = load(source, None if model is None else build_model(model, options))
    if not isinstance(network, nn.Module):
        raise ExportError(
            f"Cannot {doing} {source}: an {source.suffix} file can only be run. Give the model it was made from."
        )
    args, kwargs = getattr(network, "example", ((), {}))
    return network, args if args and not kwargs else None


def _refuse(path: Path, model: str | None, options: dict[str, Any]) -> None:
    for name, given in (("--model", model), ("--option", options)):
        if given:
            raise typer.BadParameter(f"{name}: {path} already names its model. Leave {name} out.")
