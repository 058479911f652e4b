"""What is given as a model: a module, or something that stands for one; all else is refused in one sentence."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy

from campfire_fx.base.compat import buffers_of, compiled_model, parameters_of
from campfire_fx.base.errors import CaptureError
from campfire_fx.layers.structure import shallow_copy

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def model_of(given: Any, *, needs_values: bool = True) -> nn.Module:
    """Return the module that `given` is or stands for: of a `torch.export` program, in `torch.compile` or a wrapper.

    The wrappers are DataParallel and DistributedDataParallel, whose module has the same parameters by shorter names.
    Raises CaptureError where there is none, where its code is not Python's (TorchScript), where a layer has no weights
    yet, and, with `needs_values`, where they are on the meta device.
    """
    exporter = sys.modules.get("torch.export.exported_program")  # whoever has a program has imported it
    if exporter is not None and isinstance(given, exporter.ExportedProgram):
        given = given.module()
    given = _unwrapped(given)
    if not isinstance(given, nn.Module):
        raise CaptureError(f"Model at {_name(given)}: {_what(given)}")
    if isinstance(given, torch.jit.ScriptModule):
        raise CaptureError(
            f"Model at {given.original_name}: it is a TorchScript program (of torch.jit.script or torch.jit.trace), "
            "which has no Python code to follow. Give the model that it was made from."
        )
    _require_weights(given, needs_values)
    return _with_modes(given) if isinstance(given, fx.GraphModule) else given


def _unwrapped(given: Any) -> Any:
    while isinstance(given, nn.Module):
        inside = given.module if isinstance(given, _PARALLEL) else compiled_model(given)
        if inside is None:
            break
        given = inside
    return given


def _with_modes(module: fx.GraphModule) -> nn.Module:
    """Return the module of an exported program without its `train()` and `eval()`, which only refuse to be called."""
    own = [name for name in ("train", "eval") if name in vars(module)]
    if not own:
        return module
    copied = shallow_copy(module)
    for name in own:
        del vars(copied)[name]
    return copied


def _name(given: Any) -> str:
    return given.__name__ if isinstance(given, type) else type(given).__name__


def _what(given: Any) -> str:
    """Say what was given in place of a model, and what to do."""
    if isinstance(given, type) and issubclass(given, nn.Module):
        return "this is a class. Give an instance of it."
    if isinstance(given, dict):
        inside = next((key for key, value in given.items() if isinstance(value, nn.Module)), None)
        if inside is not None:
            return f"this is a checkpoint with a model in it. Give what is under {inside!r}."
        return "these are weights without code, as in a state_dict. Build the model, load them into it, and give that."
    if isinstance(given, (str, os.PathLike)):
        return f"{os.fspath(given)!r} is a name. Build or load that model, and give it."
    if given is None:
        return "it is None. Give a torch.nn.Module."
    if isinstance(given, (tuple, list)):
        return "this is a list of things. Give one torch.nn.Module; several go into one that calls them."
    if callable(given) and not isinstance(given, type):
        return "this is a function, which owns no weights. Give a torch.nn.Module that calls it in its forward."
    return "this is no model. Give a torch.nn.Module."


def _require_weights(model: nn.Module, values: bool) -> None:
    for path, module in model.named_modules():
        for name, tensor in (*parameters_of(module).items(), *buffers_of(module).items()):
            if tensor is not None and is_lazy(tensor):
                raise CaptureError(
                    f"Lazy layer at {path or type(model).__name__}: it has no weights yet. "
                    "Run the model once before it is captured."
                )
            if values and tensor is not None and tensor.is_meta:
                raise CaptureError(
                    f"Weights at {f'{path}.{name}' if path else name}: they are on the meta device, without values. "
                    "Load a state_dict with assign=True first."
                )
