"""The layers of a model as a cost model sees them: weight shape, multiply-accumulates, sizes of their tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from campfire_fx.base.compat import CONVOLUTION, TRANSPOSED_CONVOLUTION
from campfire_fx.base.records import Record
from campfire_fx.cost.measure import macs_noting

LAYERS = (CONVOLUTION, nn.Linear)
"""Classes of the layers that a cost model sees."""


@dataclass(frozen=True, slots=True)
class Layer(Record):
    """One convolution or linear layer; counts are of one call of the model, with the inputs it was given.

    Attributes:
        name: its path.
        operation: "Conv2d", "Linear", ...
        weight: shape of its weight, as torch stores it.
        groups: of a convolution; 1 for a linear layer.
        transposed: whether the weight is (in, out per group, ...), as in transposed convolutions.
        macs: dense multiply-accumulates of the forward pass.
        inputs: elements that it reads.
        outputs: elements that it writes.
        stem: whether it is the first of the model's layers to run.
    """

    name: str
    operation: str
    weight: tuple[int, ...]
    groups: int
    transposed: bool
    macs: int
    inputs: int
    outputs: int
    stem: bool

    @property
    def weights(self) -> int:
        """How many weights it has."""
        return math.prod(self.weight)


@dataclass(frozen=True, slots=True)
class Work(Record):
    """What one call of a model computes.

    Attributes:
        layers: its convolutions and linear layers, in the order in which they first run.
        other_macs: multiply-accumulates of everything else that multiplies (attention, for one); always dense.
    """

    layers: tuple[Layer, ...]
    other_macs: int

    @property
    def macs(self) -> int:
        """Dense multiply-accumulates of one forward pass."""
        return self.other_macs + sum(layer.macs for layer in self.layers)


def work_of(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Work:
    """Run a model once, on fake tensors where it can be, and note what its layers do.

    Args:
        model: any model; sparse ones too, whose layers are then counted as if dense.
        args: positional inputs, tensors of (N, C, H, W) or whatever the model takes. Counts are of all N samples.
        kwargs: inputs by name.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, LAYERS)}
    moved: dict[str, tuple[int, int]] = {}
    count = macs_noting(model, args, kwargs, [(layer, _note(moved, name)) for name, layer in layers.items()], moved)
    counts = {**count.per_layer, "": count.total}  # a model may itself be a layer
    first = next(iter(moved), "")
    found = tuple(
        _layer(name, layers[name], counts.get(name, 0), sizes, stem=name == first) for name, sizes in moved.items()
    )
    return Work(found, count.total - sum(layer.macs for layer in found))


def _note(moved: dict[str, tuple[int, int]], name: str) -> Callable[..., None]:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> None:
        read, written = moved.get(name, (0, 0))
        image = inputs[0] if inputs else named["input"]
        moved[name] = (read + image.numel(), written + output.numel())

    return hook


def _layer(name: str, module: nn.Module, n_macs: int, moved: tuple[int, int], *, stem: bool) -> Layer:
    weight = module.weight
    assert isinstance(weight, Tensor)
    operation = type(module).__name__.removeprefix("Masked")
    groups = module.groups if isinstance(module, CONVOLUTION) else 1
    transposed = isinstance(module, TRANSPOSED_CONVOLUTION)
    return Layer(name, operation, tuple(weight.shape), groups, transposed, n_macs, *moved, stem)
