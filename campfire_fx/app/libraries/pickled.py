"""Whole models in a file of torch.save: loading one runs code that the file names."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from campfire_fx.base.disk.archive import reason
from campfire_fx.base.disk.foreign import Inert, load_foreign
from campfire_fx.base.errors import TrainError


def is_whole(path: Path) -> bool:
    """Say whether a file holds an object of a class, as `torch.save(model, path)` writes it; nothing in it is run."""
    return path.suffix.lower() != ".safetensors" and isinstance(load_foreign(path), Inert)


def whole_model(path: Path, *, trust: bool) -> nn.Module:
    """Return the model that `torch.save(model, path)` wrote, in evaluation mode on the CPU. Runs what the file names.

    Raises:
        TrainError: it is not trusted, cannot be loaded, or holds no model.
    """
    if not trust:
        raise TrainError(
            f"{path}: it is a whole pickled model, and loading it runs code. Name its class with --model, or, if you"
            " trust who made it, give shrink --trust."
        )
    try:
        found = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # the code that it names may raise anything
        raise TrainError(
            f"{path}: it cannot be loaded ({reason(error)}). Run it where the code of its model can be imported."
        ) from error
    if not isinstance(found, nn.Module):
        raise TrainError(f"{path}: it holds no whole model. Name the model of its weights with --model.")
    return found.eval()
