"""Dense weights: layers that compute with a part of their weight, and train all of it.

What such a layer keeps for its backward pass is stored packed: the non-zero values, and where they are.
"""

from __future__ import annotations

from torch import nn

from campfire_fx.layers.dense_weights.layers import DenseWeightsLayer, keep_dense_weights, release_dense_weights
from campfire_fx.layers.dense_weights.relu import PackedReLU, pack_relus, unpack_relus


def arrange_relus(model: nn.Module) -> None:
    """Make ReLUs packed ones where a layer of the model packs its input, and plain ones where none does."""
    layers = (module for module in model.modules() if isinstance(module, DenseWeightsLayer))
    if any(layer.kept_inputs is not None for layer in layers):
        pack_relus(model)
    else:
        unpack_relus(model)


__all__ = [
    "DenseWeightsLayer",
    "PackedReLU",
    "arrange_relus",
    "keep_dense_weights",
    "pack_relus",
    "release_dense_weights",
    "unpack_relus",
]
