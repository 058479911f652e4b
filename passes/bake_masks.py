"""Bake masks: masked layers become torch's plain ones again, their weights zero where the masks say so."""

from __future__ import annotations

from torch import nn

from campfire_fx.masked import MaskedLayer, unmask_layer


def bake_masks(model: nn.Module) -> None:
    """Make every masked layer of a model plain, in place. Exact: the weights are zero under their masks already."""
    for module in list(model.modules()):
        if isinstance(module, MaskedLayer):
            unmask_layer(module)
