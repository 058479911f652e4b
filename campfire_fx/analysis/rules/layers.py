"""Which layer of torch.nn does what a function or a method does, and by which arguments it is set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from campfire_fx.analysis.rules.mixing import PLAIN, TRANSPOSED


@dataclass(frozen=True, slots=True)
class LayerForm:
    """The layer, and the arguments behind input, weight and bias that it is set by."""

    layer: type[nn.Module]
    settings: tuple[str, ...] = ()


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FORWARD = ("stride", "padding", "dilation", "groups")
_BACKWARD = ("stride", "padding", "output_padding", "groups", "dilation")

MIXING: dict[Any, LayerForm] = {
    F.linear: LayerForm(nn.Linear),
    **{function: LayerForm(layer, _FORWARD) for function, layer in zip(PLAIN, _CONVOLUTIONS, strict=True)},
    **{function: LayerForm(layer, _BACKWARD) for function, layer in zip(TRANSPOSED, _TRANSPOSED, strict=True)},
}
"""Functions of an input, a weight and perhaps a bias."""
RELU: dict[Any, bool] = {
    F.relu: False,
    torch.relu: False,
    "relu": False,
    F.relu_: True,
    torch.relu_: True,
    "relu_": True,
}
"""What nn.ReLU does: whether in place, if no argument says it."""
ACTIVATIONS: dict[Any, str] = {
    **dict.fromkeys((*RELU, nn.ReLU), "relu"),
    **dict.fromkeys((F.relu6, nn.ReLU6), "relu6"),
    **dict.fromkeys((F.silu, nn.SiLU), "silu"),
    **dict.fromkeys((F.hardswish, nn.Hardswish), "hardswish"),
}
"""Activations without numbers of their own, by the names that `layers.fused` has for them."""
MAX_POOLS: dict[Any, int] = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}
"""Layers that take maxima over windows, and over how many dimensions."""
