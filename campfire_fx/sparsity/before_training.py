"""Masks from data before the training: evidence for each weight, from which a rule over all layers chooses once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.method import CURVATURE, GRADIENTS, Method
from campfire_fx.sparsity.over_layers import Ranked, as_cut, cut_together

PRODUCTS = "products"
"""What a layer carries until its mask is chosen: weight * gradient, summed over batches."""


@dataclass(frozen=True, slots=True)
class FromProducts(Method):
    """Masks are chosen once, from weights times gradients: those of `gather`, else those of the first training step.

    The rule of each layer, a `Cut` over all layers, ranks what `measure` makes of the products in the place of the
    weights; of equal ones the first die.
    """

    name = "products"
    gathers = GRADIENTS
    ranks_over_layers = True
    gathers_in_training_mode = True
    sees_all: ClassVar[bool] = True
    needs_gather: ClassVar[bool] = False

    def measure(self, products: Sequence[Tensor]) -> list[Tensor]:
        """Return what is ranked, 0 or more, from the products of all layers: connection sensitivity, |w * g| (SNIP)."""
        return [product.abs() for product in products]

    def gather(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Add the products of a batch to those before: see `Method`."""
        del now
        for layer in layers:
            if layer.rises and layer.gradient is not None:
                product = layer.weight * layer.gradient
                before = layer.module.carried.get(PRODUCTS)
                layer.module.carry(**{PRODUCTS: product if before is None else before + product})

    def before_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Choose by the gradients at hand, where nothing was gathered before: see `Method`."""
        waiting = [layer for layer in layers if layer.rises]
        if not waiting or self.needs_gather:
            return
        if all(layer.gradient is None or bool(torch.isfinite(layer.gradient).all()) for layer in waiting):
            self.gather(waiting, now)
            self._choose(waiting)

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Choose by what was gathered; without it, wait for the first step: see `Method`."""
        waiting = [layer for layer in layers if layer.rises]
        if any(PRODUCTS in layer.module.carried for layer in waiting):
            self._choose(waiting)
        elif waiting and (now.frozen or self.needs_gather):
            raise RegimeError(
                f"{self.name}: it chooses by data, and has seen none. "
                "Call gather(loss_fn, loader) before attach() and finalize()."
            )

    def _choose(self, layers: Sequence[PrunedLayer]) -> None:
        masks = [layer.module.as_filters(layer.mask) for layer in layers]
        none = [torch.zeros_like(layer.weight) for layer in layers]
        given = [layer.module.carried.get(PRODUCTS, zero) for layer, zero in zip(layers, none, strict=True)]
        measured = self.measure([layer.module.as_filters(one) for layer, one in zip(layers, given, strict=True)])
        ranked = [
            Ranked(as_cut(layer.rule), value, mask) for layer, value, mask in zip(layers, measured, masks, strict=True)
        ]
        due = sum(layer.due * layer.mask.numel() for layer in layers) / sum(layer.mask.numel() for layer in layers)
        for layer, mask in zip(layers, cut_together(ranked, due), strict=True):
            layer.module.carry(**{PRODUCTS: None})
            layer.take_up(mask)


@dataclass(frozen=True, slots=True)
class FromCurvature(FromProducts):
    """Masks are chosen once, from weights times H g: see `FromProducts`."""

    name = "curvature"
    gathers = CURVATURE
    needs_gather: ClassVar[bool] = True

    def measure(self, products: Sequence[Tensor]) -> list[Tensor]:
        """Return the places in the order of w * (H g), from 1 up: removed is what is lowest (GraSP)."""
        flat = torch.cat([product.flatten().double().cpu() for product in products])
        places = torch.empty_like(flat)
        places[flat.argsort(stable=True)] = torch.arange(1, flat.numel() + 1, dtype=flat.dtype)
        parts = places.split([product.numel() for product in products])
        return [part.view(product.shape).to(product.device) for part, product in zip(parts, products, strict=True)]
