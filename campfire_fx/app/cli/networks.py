"""The network that a file given to a command holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from campfire_fx.app.train.checkpoint import checkpoint_of, is_checkpoint, load_state, read_tensors, restore
from campfire_fx.app.train.models import build_model
from campfire_fx.base.errors import ExportError
from campfire_fx.capture.from_onnx.read import read_onnx
from campfire_fx.export import load


def network_of(
    checkpoint: Path, model: str | None, options: dict[str, Any]
) -> tuple[nn.Module, tuple[torch.Tensor, ...] | None]:
    """Build the model of a checkpoint or an .onnx file, and an example input where that knows its shape."""
    if checkpoint.suffix.lower() == ".onnx":
        read = read_onnx(checkpoint)
        return read, read.example[0]
    content = read_tensors(checkpoint)
    if is_checkpoint(content) or model is None:
        saved = checkpoint_of(content, checkpoint)
        return restore(saved, model), (torch.randn(saved.shape),)
    network = build_model(model, **options)
    load_state(network, content, model)
    return network.eval(), None


def exported_network(source: Path, doing: str) -> nn.Module:
    """Load a file of `export` whose model can be worked on; `doing`: what with, for the error."""
    network = load(source)
    if not isinstance(network, nn.Module):
        raise ExportError(
            f"Cannot {doing} {source}: an {source.suffix} file can only be run. Give the model it was made from."
        )
    return network
