"""A private copy of a model, captured, its layers with masks: what sparse training and coupled channels begin with."""

from __future__ import annotations

from typing import Any

from torch import nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.base.copies import private_copy
from campfire_fx.base.errors import RegimeError
from campfire_fx.capture import model_of, trace
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.passes.insert_masks import Insertion, insert_masks
from campfire_fx.passes.make_layers import make_layers
from campfire_fx.passes.runner import apply


def masked_copy(
    asked: str, model: nn.Module, example_inputs: Any, examples: list[Any] | None
) -> tuple[Captured, Insertion]:
    """Capture a copy of a model and insert masks that keep everything.

    Args:
        asked: for what, as errors name it.
        model: a dense model; it is not touched.
        example_inputs: as `trace` takes them.
        examples: several of them.

    Raises:
        CaptureError: no part of the model can be captured.
        RegimeError: a layer holds a mask already.
    """
    model = model_of(model)
    _require_dense(asked, model)
    captured = trace(private_copy(model), example_inputs, examples=examples, compiled=False)
    *_, insertion = apply(captured, make_layers, insert_masks)
    return captured, insertion


def _require_dense(asked: str, model: nn.Module) -> None:
    """Raise if a layer of the model holds a mask already: its masks, schedule and optimizer would be lost."""
    for path, module in model.named_modules():
        if isinstance(module, MaskedLayer):
            raise RegimeError(
                f"{asked} at {path}: the layer has a mask already, so the model is sparse. "
                "Give the dense model, or what shrink() makes of this one."
            )
