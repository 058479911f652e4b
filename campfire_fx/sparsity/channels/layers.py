"""Coupled channels as the layers of a model have them: their scores' evidence, their masks, their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from campfire_fx.base.sharding import local, part_of, whole
from campfire_fx.base.zeroing import selector, zero_
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.sparsity.channels.coupling import Alive, CoupledLayer, Coupling, alive_in
from campfire_fx.sparsity.channels.scores import Evidence
from campfire_fx.sparsity.layer import PrunedLayer, exact
from campfire_fx.sparsity.selection import WHOLE, Goal

GATHERED = "channel scores"
"""What the memory of a training calls the score from data, (groups,)."""


def coupling_of(layers: Sequence[PrunedLayer]) -> Coupling:
    """Return the coupling that a method's layers come with."""
    coupling = layers[0].coupling
    assert coupling is not None, "sparsify gives a method that couples its groups"
    return coupling


def with_coupling(layers: Sequence[PrunedLayer], coupling: Coupling) -> list[tuple[PrunedLayer, CoupledLayer]]:
    """Pair the method's layers with their coupling."""
    named = {layer.state.assignment.name: layer for layer in layers}
    return [(named[coupled.path], coupled) for coupled in coupling.layers if coupled.path in named]


def living(pairs: Iterable[tuple[CoupledLayer, MaskedLayer]], coupling: Coupling) -> Alive:
    """Return which groups live by the masks of layers, (groups,)."""
    masks = [(coupled, layer.as_filters(layer.mask).any(-1).cpu().numpy()) for coupled, layer in pairs]
    return alive_in(masks, coupling.groups)


def evidence_of(layers: Sequence[PrunedLayer], coupling: Coupling, alive: Alive) -> Evidence:
    """Return what scores are made of."""
    known = with_coupling(layers, coupling)
    weights = {coupled.path: layer.module.as_filters(exact(layer.weight)) for layer, coupled in known}
    biases = {
        coupled.path: exact(whole(layer.module.bias.detach()))
        for layer, coupled in known
        if isinstance(layer.module.bias, Tensor)
    }
    norms = {vector.norm for vector in coupling.vectors if vector.norm}
    modules = {path: layers[0].model.get_submodule(path) for path in sorted(norms)}
    scales: Mapping[str, Any] = {path: (_vector(m.weight), _vector(m.bias)) for path, m in modules.items()}
    gathered = layers[0].memory.get(GATHERED)
    seen = None if gathered is None or bool(gathered.isnan().all()) else gathered.cpu().numpy()
    return Evidence(coupling, weights, scales, biases, alive, seen)


def _vector(value: Any) -> Tensor | None:
    return exact(whole(value.detach())) if isinstance(value, Tensor) else None


def mask_kernels(layer: PrunedLayer, kernels: Tensor) -> None:
    """Mask the kernels of dead channels, and inside the others what the layer's rule proposes."""
    mask = layer.module.as_filters(layer.mask)
    mask = mask & kernels.unsqueeze(-1)
    rule = layer.state.assignment.rule
    rows, inputs = kernels.any(1), kernels.any(0)
    if rule is not None and rule != WHOLE and bool(rows.any()):
        weight = layer.module.as_filters(exact(layer.weight))
        size = layer.dense_weights / (int(rows.sum()) * int(inputs.sum()) * mask.shape[2])
        goal = Goal(*(max(0.0, 1 - (1 - sparsity) * size) for sparsity in (layer.goal.sparsity, layer.goal.final)))
        inside = mask[rows][:, inputs]
        inside = inside & rule(weight[rows][:, inputs], inside, goal)
        places = rows.nonzero(), inputs.nonzero().flatten()
        mask = mask.index_put((places[0], places[1]), inside)
    if not torch.equal(mask, layer.module.as_filters(layer.mask)):
        layer.set_mask(layer.module.from_filters(mask))


def zero_filters(layer: PrunedLayer, kernels: Tensor) -> None:
    """Set the filters of dead channels to zero, once."""
    weight = layer.module.weight
    live = kernels.any(1)[:, None, None].expand_as(layer.module.as_filters(layer.mask))
    zero_(local(weight), part_of(selector(layer.module.from_filters(live), weight), weight))
