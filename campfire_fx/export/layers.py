"""How to build a torch.nn layer again: its class and constructor arguments, read from the layer itself.

Nothing here knows a layer by name, save the few of torch.nn that do not keep what they were built with. The
arguments are the constructor's own signature, each looked up as an attribute of the layer; what equals the
default is left out. A layer is the torch.nn class whose computation it performs, so a masked, parametrised or
hook-pruned convolution comes out as a plain one that holds the weights it computes with.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.base.errors import ExportError
from campfire_fx.base.torch_classes import torch_class
from campfire_fx.export.literals import literal

_SPATIAL = frozenset({"kernel_size", "stride", "padding", "dilation", "output_padding"})
"""Arguments for which torch reads one number as the same number along every axis."""

_NOT_KEPT: Mapping[tuple[type[nn.Module], str], Callable[[Any], Any]] = {
    (nn.MultiheadAttention, "bias"): lambda layer: layer.in_proj_bias is not None,
    (nn.MultiheadAttention, "add_bias_kv"): lambda layer: layer.bias_k is not None,
}
"""Constructor arguments that a torch.nn layer does not keep under their name."""

_RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
_SIGNATURES: Mapping[type[nn.Module], tuple[str, ...]] = {
    nn.Identity: (),
    nn.RNN: (*_RECURRENT, "nonlinearity"),
    nn.GRU: _RECURRENT,
    nn.LSTM: (*_RECURRENT, "proj_size"),
}
"""Arguments of the torch.nn layers whose constructor takes anything."""

_ABSENT = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Construction:
    """A constructor call of torch.nn: what makes a layer anew."""

    kind: type[nn.Module]
    positional: tuple[Any, ...]
    keywords: dict[str, Any]

    @property
    def text(self) -> str:
        """The call as code."""
        given = [literal(value) for value in self.positional]
        given += [f"{name}={literal(value)}" for name, value in self.keywords.items()]
        return f"nn.{self.kind.__name__}({', '.join(given)})"

    def build(self) -> nn.Module:
        """Make the layer, with fresh weights."""
        return self.kind(*self.positional, **self.keywords)


def construction(layer: nn.Module, name: str) -> Construction:
    """Return the constructor call that makes a layer of the same shape and settings.

    Raises:
        ExportError: the layer is not one of torch.nn, or does not keep what it was built with.
    """
    kind = torch_class(layer)
    if kind is None:
        raise ExportError(
            f"no torch-only code at {name}: {type(layer).__name__} is not a layer of torch.nn. "
            "Write its forward with torch operations so that it is traced through, export to .onnx or .pt2, or keep "
            "the model with its classes by torch.save(model, path)."
        )
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for argument, default in _arguments(kind):
        value = _value(layer, kind, argument, default, name)
        if default is _ABSENT and not keywords and argument not in _SPATIAL:
            positional.append(value)
        elif argument == "bias" and False in (keywords.get("affine"), keywords.get("elementwise_affine")):
            continue  # a norm without a scale has no shift either
        elif default is _ABSENT or not _same(value, default):
            keywords[argument] = value
    takes_dtype = kind in _SIGNATURES or "dtype" in inspect.signature(kind).parameters
    if takes_dtype and (dtype := _dtype(layer)) is not None:
        keywords["dtype"] = dtype
    return Construction(kind, tuple(positional), keywords)


class Rebuilder:
    """Builds layers anew, each and each parameter once, so that what was one object before is one after."""

    def __init__(self) -> None:
        # The old objects are kept with the new: an id says nothing once its object is gone.
        self._layers: dict[int, tuple[nn.Module, nn.Module]] = {}
        self._parameters: dict[int, tuple[Tensor, nn.Parameter]] = {}

    def layer(self, old: nn.Module, name: str) -> nn.Module:
        """Return the layer that the old one's construction makes, with the tensors that the old one computes with.

        Raises:
            ExportError: the layer is not one of torch.nn, or its settings do not fit its tensors.
        """
        if id(old) not in self._layers:
            new = self._built(old, name)
            self._layers[id(old)] = self._layers[id(new)] = (old, new)
        return self._layers[id(old)][1]

    def parameter(self, old: nn.Parameter) -> nn.Parameter:
        """Return the parameter that stands for the old one, over the same memory."""
        if id(old) not in self._parameters:
            new = nn.Parameter(old.detach(), old.requires_grad)
            self._parameters[id(old)] = self._parameters[id(new)] = (old, new)
        return self._parameters[id(old)][1]

    def _built(self, old: nn.Module, name: str) -> nn.Module:
        new = construction(old, name).build().train(old.training)
        for key, empty in new.state_dict(keep_vars=True).items():
            value: Any = reduce(getattr, key.split("."), old)
            if not isinstance(value, Tensor) or value.shape != empty.shape:
                found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ExportError(
                    f"{key} at {name}: the layer's settings make it {tuple(empty.shape)}, it holds {found}. "
                    "Set the layer's attributes (channels, features, groups) to what its tensors are."
                )
            if isinstance(value, nn.Parameter):
                value = self.parameter(value)
            elif isinstance(empty, nn.Parameter):  # a weight that a parametrisation or a hook computes
                value = nn.Parameter(value.detach().clone())
            path, _, attribute = key.rpartition(".")
            setattr(new.get_submodule(path), attribute, value)
        return new


def _arguments(kind: type[nn.Module]) -> list[tuple[str, Any]]:
    """Return the constructor's arguments with their defaults, less the ones that are not settings."""
    if kind in _SIGNATURES:
        known = inspect.signature(nn.RNNBase).parameters
        return [(name, known[name].default if name in known else "tanh") for name in _SIGNATURES[kind]]
    parameters = inspect.signature(kind).parameters.values()
    return [
        (parameter.name, parameter.default)
        for parameter in parameters
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in ("device", "dtype")
        and not parameter.name.startswith("_")
    ]


def _value(layer: nn.Module, kind: type[nn.Module], argument: str, default: Any, name: str) -> Any:
    """Read one constructor argument off the layer; an argument it does not keep is at its default."""
    if (kind, argument) in _NOT_KEPT:
        return _NOT_KEPT[kind, argument](layer)
    value = getattr(layer, argument, default)
    if value is _ABSENT:
        raise ExportError(
            f"no torch-only code at {name}: nn.{kind.__name__} does not keep its argument {argument!r}. "
            "Export to .onnx or .pt2 instead."
        )
    if argument == "bias":
        return value if isinstance(value, bool) else value is not None
    if argument in _SPATIAL and isinstance(value, tuple) and len(set(value)) == 1:
        return value[0]
    return value


def _same(value: Any, default: Any) -> bool:
    """Say whether a value is the default: equal, and of a type that prints the same."""
    if isinstance(value, float) and isinstance(default, float):
        return value == default or (math.isnan(value) and math.isnan(default))
    return type(value) is type(default) and bool(value == default)


def _dtype(layer: nn.Module) -> torch.dtype | None:
    """Return the floating dtype of the layer's tensors where it is not float32."""
    for tensor in (*layer.parameters(), *layer.buffers()):
        if tensor.is_floating_point() or tensor.is_complex():
            return None if tensor.dtype == torch.float32 else tensor.dtype
    return None
