"""A layer that is a whole model, so that a method can be tested on it alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from campfire_fx.layers.masked import mask_layer
from campfire_fx.sparsity import Method, Polynomial, PrunedLayer, Rule, Schedule
from campfire_fx.sparsity.assignment import Assignment
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.layer import LayerState


def lone(
    weight: Tensor, rule: Rule, method: Method, sparsity: float = 0.5, schedule: Schedule | None = None, **clock: Any
) -> PrunedLayer:
    """Return a layer with a weight (K, C, P) that a method prunes by a rule; the era is from epoch 0 to 4."""
    conv = nn.Conv1d(*(weight.shape[axis] for axis in (1, 0, 2)), bias=False)
    conv.weight = nn.Parameter(weight.clone())
    assignment = Assignment("conv", sparsity, schedule or Polynomial(0, 4), rule, method)
    return PrunedLayer(nn.Sequential(conv), mask_layer(conv), LayerState(assignment), Clock(**clock))


def masked(layer: PrunedLayer) -> list[bool]:
    """Return the mask as a flat list."""
    kept: list[bool] = layer.mask.flatten().tolist()
    return kept
