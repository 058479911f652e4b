"""Example inputs: bring them to one form, or guess them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from campfire_fx.errors import CaptureError


def example_for(model: nn.Module, example_inputs: Any = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return example inputs as (positional, keyword).

    A tuple or list holds positional arguments, a dict keyword arguments, anything else is the one argument.
    """
    if example_inputs is None:
        first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
        if first is None:
            raise CaptureError("No example inputs at the model: none were given. Give example_inputs=...")
        weight = first.weight
        return (torch.randn(1, first.in_channels, 224, 224, dtype=weight.dtype, device=weight.device),), {}
    if isinstance(example_inputs, dict):
        return (), dict(example_inputs)
    if isinstance(example_inputs, tuple):
        return tuple(example_inputs), {}
    return (example_inputs,), {}
