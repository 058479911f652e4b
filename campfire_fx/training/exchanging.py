"""Exchanging: weights of a sparse model that die within the era, for others to grow (drop and grow)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from campfire_fx.base.sharding import reshard, whole
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.sparsity.course import Course
from campfire_fx.sparsity.update import Exchange, Moment
from campfire_fx.training.masks import find_layer, layers_sharing, set_mask


def open_gradients(model: nn.Module, course: Course) -> None:
    """Leave the gradients of the layers whole that exchange weights before the next step, and of no others."""
    for name, update in course.exchanging().items():
        layer, due = find_layer(model, name, course.assignments), course.exchange_due(name, update)
        if layer.whole_gradient != due:  # seldom, and this is asked in every step
            for sharing in layers_sharing(model, layer):
                sharing.whole_gradient = due


@torch.no_grad()
def exchange(model: nn.Module, course: Course, parameters: Iterable[Tensor]) -> None:
    """Exchange weights where that is due: right before an optimizer step, which then sees the new masks.

    A gradient that is not finite ranks nothing: its layer waits for the next step, and the optimizer does not see what
    is under its mask.

    Args:
        model: holds masked layers.
        course: says which of them exchange weights.
        parameters: only these.
    """
    held = {id(parameter) for parameter in parameters}
    named = [(find_layer(model, n, course.assignments), u, n) for n, u in course.exchanging().items()]
    due = [found for found in named if found[0].whole_gradient and id(found[0].weight) in held]
    if due:
        reshard(model.modules())
    for layer, update, name in due:
        gradient = None if layer.weight.grad is None else whole(layer.weight.grad)
        if gradient is not None and bool(torch.isfinite(gradient).all()):
            mask = _exchanged(layer, update, gradient, course.moment(name))
            for sharing in layers_sharing(model, layer):
                sharing.whole_gradient = False
            set_mask(model, layer, mask)
        else:
            layer.mask_gradient(layer.weight)


def _exchanged(layer: MaskedLayer, update: Exchange, gradient: Tensor, moment: Moment) -> Tensor:
    weight, gradient, mask = map(layer.as_filters, (whole(layer.weight.detach()), gradient, layer.mask))
    return layer.from_filters(update.exchange(weight, gradient, mask, moment))
