"""Densities: what fraction of each layer's operands a method computes with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain, plain_fields
from campfire_fx.base.records import Record
from campfire_fx.cost.layers import Layer
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.sparsity.budget import ERK

SWAT_METHODS = ("swat-u", "swat-erk", "swat-structured")
"""SWAT's variants whose densities follow from shapes alone."""


@dataclass(frozen=True, slots=True)
class Density(Record):
    """What one layer keeps, as fractions in [0, 1].

    Attributes:
        weights: of the weights that the forward pass and the input gradient multiply with.
        activations: of the activations that the weight gradient multiplies with. The forward pass reads all of them.
        weight_gradient: of the weights whose gradient is computed at all. 1 where dead weights go on learning, as in
            SWAT; equal to `weights` where they stay dead, as in Campfire.

    Raises:
        RegimeError: a fraction is out of range.
    """

    weights: float = 1.0
    activations: float = 1.0
    weight_gradient: float = 1.0

    def __post_init__(self) -> None:
        plain_fields(self)
        for name in ("weights", "activations", "weight_gradient"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise RegimeError(f"Density: {name} is {value!r}. Give the fraction that is kept, from 0 to 1.")


DENSE = Density()


def swat_densities(method: str, sparsity: float, layers: tuple[Layer, ...]) -> dict[str, Density]:
    """Return the densities of SWAT's variants, layer by layer; activations are as sparse as weights (its code).

    "swat-u" and "swat-structured" keep 1 - sparsity of every layer but the stem, which is dense; they differ in which
    weights they keep, not in how many. "swat-erk" spreads the total by `ERK`, stem and classifier included.

    Raises:
        RegimeError: no such variant, or one whose densities are an outcome of training; a sparsity outside [0, 1).
    """
    if method == "swat-m":
        raise RegimeError(
            "swat-m: its densities are an outcome of training, momentum by momentum, and no formula gives them. "
            "Give the densities of a trained model, as campfire_fx.cost.Density by layer."
        )
    if method not in SWAT_METHODS:
        raise RegimeError(f"method '{method}': no such variant of SWAT. There are {', '.join(SWAT_METHODS)}.")
    sparsity = plain(sparsity)
    if isinstance(sparsity, bool) or not isinstance(sparsity, (int, float)) or not 0 <= sparsity < 1:
        raise RegimeError(f"{method}: a sparsity of {sparsity!r} is outside [0, 1).")
    if method == "swat-erk":
        parts = ERK().divide([layer.weight for layer in layers], sparsity)
        kept = {layer.name: 1 - part for layer, part in zip(layers, parts, strict=True)}
    else:
        kept = {layer.name: 1.0 if layer.stem else 1 - sparsity for layer in layers}
    return {name: Density(density, density) for name, density in kept.items()}


def mask_densities(model: nn.Module, *, dead_weights_learn: bool = False) -> dict[str, Density]:
    """Return the densities of a sparse model's true masks, by the path of each masked layer; activations are dense.

    Args:
        model: a `SparseModel`, or any module with masked layers in it.
        dead_weights_learn: whether gradients of dead weights are computed all the same.
    """
    found = {name: module for name, module in model.named_modules() if isinstance(module, MaskedLayer)}
    kept = {name: float(layer.mask.double().mean()) for name, layer in found.items()}
    return {name: Density(density, 1.0, 1.0 if dead_weights_learn else density) for name, density in kept.items()}


def density_of(densities: Mapping[str, Density], layers: tuple[Layer, ...]) -> dict[str, Density]:
    """Return the density of every layer, dense where none is given.

    Raises:
        RegimeError: a density is given for a layer that there is not.
    """
    names = [layer.name for layer in layers]
    for name in densities:
        if name not in names:
            raise RegimeError(f"densities: the model has no layer '{name}' that runs. It has {', '.join(names)}.")
    return {name: densities.get(name, DENSE) for name in names}
