"""`trace`: a model and an example in, what could be captured out."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from campfire_fx.capture.example import example_for
from campfire_fx.capture.islands import capture_islands
from campfire_fx.capture.records import Captured
from campfire_fx.capture.whole import capture_whole
from campfire_fx.errors import CaptureError


def trace(model: nn.Module, example_inputs: Any = None) -> Captured:
    """Capture `model` as graphs over its own modules and parameters. The model given is not altered."""
    _refuse_lazy_layers(model)
    args, kwargs = example_for(model, example_inputs)
    try:
        island = capture_whole(model, args, kwargs)
    except CaptureError as reason:
        return capture_islands(model, args, kwargs, reason)
    return Captured(island.module, (island,), (), island.args, island.kwargs)


def _refuse_lazy_layers(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if any(is_lazy(tensor) for tensor in (*module._parameters.values(), *module._buffers.values())):
            raise CaptureError(
                f"Lazy layer at {path or type(model).__name__}: it has no weights yet. "
                "Run the model once before it is captured."
            )
