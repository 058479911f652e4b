"""Bake masks: masked layers become torch's plain ones again, their weights zero where the masks say so."""

from __future__ import annotations

import copy
from itertools import chain

from torch import nn

from campfire_fx.layers.dense_weights import DenseWeightsLayer, release_dense_weights, unpack_relus
from campfire_fx.layers.dressing import Dress, undressed
from campfire_fx.layers.masked import MaskedLayer, unmask_layer


def bake_masks(model: nn.Module) -> None:
    """Make every masked layer of a model plain, in place. Exact: the weights are zero under their masks.

    A layer with dense weights gets a weight of its own.
    """
    bake_dense_weights(model)
    for module in list(model.modules()):
        if isinstance(module, MaskedLayer):
            unmask_layer(module)


def bake_dense_weights(model: nn.Module) -> None:
    """Make every layer with dense weights an ordinary masked one, with a weight of its own, in place."""
    for module in list(model.modules()):
        if isinstance(module, DenseWeightsLayer):
            module.bake_weight()
            release_dense_weights(module)
    unpack_relus(model)


def baked_copy(model: Dress) -> nn.Module:
    """Return the plain model inside a sparse one: new modules, without masks, over the same parameters and buffers.

    An optimizer of the sparse model is thus one of the copy too.
    """
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    with undressed(model) as plain:
        result = copy.deepcopy(plain, dict(shared))
    bake_masks(result)
    return result
