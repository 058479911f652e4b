"""How a model calls its convolutions and linear layers: what their time depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.base.compat import CONVOLUTION, TRANSPOSED_CONVOLUTION
from campfire_fx.base.copies import private_copy
from campfire_fx.base.errors import CostError
from campfire_fx.cost.layers import LAYERS
from campfire_fx.cost.measure import OperationCount

_SETTINGS = ("kernel_size", "stride", "padding", "output_padding", "dilation", "padding_mode")
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True, slots=True)
class LayerCall:
    """One call of a layer. Equal calls take equal time.

    Attributes:
        operation: "Conv2d", "Linear", ...
        inputs: channels (features) that the layer reads.
        outputs: channels that it writes.
        groups: of a convolution; 1 for a linear layer.
        bias: whether it has one.
        settings: what else its class is made with, by name.
        shape: of the tensor that it reads.
        axis: of this shape's channels, counted from the end.
        dtypes: of the weight, and of what is read.
        channels_last: whether the weight is in this memory format, and what is read.
    """

    operation: str
    inputs: int
    outputs: int
    groups: int
    bias: bool
    settings: tuple[tuple[str, Any], ...]
    shape: tuple[int, ...]
    axis: int
    dtypes: tuple[str, str]
    channels_last: tuple[bool, bool]

    def narrowed(self, inputs: int, outputs: int) -> tuple[int, ...]:
        """Return the shape of what is read where the layer has other widths; a grouped one so many whole groups."""
        shape = list(self.shape)
        shape[self.axis] = self.read_by(inputs, outputs)
        return tuple(shape)

    def read_by(self, inputs: int, outputs: int) -> int:
        """Return how many channels a layer with so many outputs reads: those of its groups, if it has any."""
        return inputs if self.groups == 1 else outputs * self.inputs // self.outputs

    def layer(self, inputs: int, outputs: int) -> nn.Module:
        """Return such a layer with other widths, without memory; a grouped one has fewer groups, each as wide."""
        settings = dict(self.settings)
        if self.groups > 1:
            settings["groups"] = outputs * self.groups // self.outputs
        dtype = getattr(torch, self.dtypes[0])
        read = self.read_by(inputs, outputs)
        return getattr(nn, self.operation)(read, outputs, bias=self.bias, device="meta", dtype=dtype, **settings)


@dataclass(frozen=True, slots=True)
class ModelCalls:
    """What one call of a model calls.

    Attributes:
        layers: path of each convolution and linear layer that runs -> its calls, in their order.
        elements: path -> how many elements it writes in all of its calls.
        others: how many operations other than these calls compute something.
        digest: equal for models that run the same operations in the same order of layers.
    """

    layers: dict[str, tuple[LayerCall, ...]]
    elements: dict[str, int]
    others: int
    digest: str


def calls_of(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> ModelCalls:
    """Run a model once in evaluation mode, and note how its layers are called. What runs is a copy.

    Args:
        model: any model, sparse ones too; paths are those of its `named_modules()`.
        args: positional inputs.
        kwargs: inputs by name.

    Raises:
        CostError: it calls no convolution and no linear layer.
    """
    copied = private_copy(model).eval()
    layers: dict[str, list[LayerCall]] = {}
    elements: dict[str, int] = {}
    for path, module in copied.named_modules():
        if isinstance(module, LAYERS) and _torchs_class(module):
            module.register_forward_hook(_note(path, layers, elements), with_kwargs=True)
    with torch.no_grad(), OperationCount() as count:
        copied(*args, **(kwargs or {}))
    if not layers:
        raise CostError("Latency table: the model calls no convolution and no linear layer. Give one that does.")
    operations = sorted(count.seen.items())
    digest = hashlib.sha256(repr((operations, list(layers.values()))).encode()).hexdigest()[:16]
    others = max(0, sum(count.seen.values()) - sum(map(len, layers.values())))
    return ModelCalls({path: tuple(calls) for path, calls in layers.items()}, elements, others, digest)


def _note(path: str, layers: dict[str, list[LayerCall]], elements: dict[str, int]) -> Callable[..., None]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> None:
        layers.setdefault(path, []).append(_call(layer, inputs[0] if inputs else named["input"]))
        elements[path] = elements.get(path, 0) + output.numel()

    return hook


def _call(layer: Any, read: Tensor) -> LayerCall:
    convolution, transposed = isinstance(layer, CONVOLUTION), isinstance(layer, TRANSPOSED_CONVOLUTION)
    names = [name for name in _SETTINGS if convolution and (transposed or name != "output_padding")]
    return LayerCall(
        _torchs_class(layer),
        layer.in_channels if convolution else layer.in_features,
        layer.out_channels if convolution else layer.out_features,
        layer.groups if convolution else 1,
        layer.bias is not None,
        tuple((name, getattr(layer, name)) for name in names),
        tuple(read.shape),
        -1 - len(layer.kernel_size) if convolution else -1,
        (_name(layer.weight), _name(read)),
        (_is_channels_last(layer.weight), _is_channels_last(read)),
    )


def _torchs_class(layer: nn.Module) -> str:
    """Return the name of the class in torch.nn that a layer is, or is derived from; "" where there is none."""
    bases = (cls for cls in type(layer).__mro__ if issubclass(cls, LAYERS))
    return next((cls.__name__ for cls in bases if getattr(nn, cls.__name__, None) is cls), "")


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _is_channels_last(tensor: Tensor) -> bool:
    layout = _CHANNELS_LAST.get(tensor.ndim)
    return layout is not None and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=layout)
