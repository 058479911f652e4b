"""The public release: zeros that a shrink has left become small weights again, for another cycle of pruning."""

from __future__ import annotations

import torch
from torch import nn

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.base.sharding import is_sharded
from campfire_fx.capture import model_of
from campfire_fx.layers.masked import MaskedLayer, plain_class
from campfire_fx.sparsity.chance import seeded


@torch.no_grad()
def release(model: nn.Module, noise: float = 0.1, *, seed: int = 0) -> int:
    """Fill the exact zeros in the weights of convolutions and linear layers with small noise, in place.

    One part of Squeeze-Release (Denkin et al. 2026, arXiv 2606.14346): prune, shrink, release the zeros that are left
    so that they train again, repeat; later cycles find channels that a single one does not. How the paper calibrates
    its noise is not known here: it is normal, with `noise` times the root mean square of the layer's other weights.
    The less of it, the less the output changes. Do not release after the last shrink.

    Args:
        model: any dense model, as `shrink` returns it; sparsify what comes out, for the next cycle.
        noise: as a part of the layer's weights, above 0.
        seed: of the noise; torch's own generator is left alone.

    Returns:
        How many weights were filled.

    Raises:
        CaptureError: this is no model.
        RegimeError: the noise is not a positive number, or the model is a sparse one, or spread over processes.
    """
    noise = plain(noise)
    if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0 < noise < float("inf"):
        raise RegimeError(f"release: noise={noise!r} is not above 0. Give a part of the layer's weights, as 0.1.")
    model = model_of(model)
    layers = {id(module.weight): module for module in model.modules() if plain_class(module) is not None}
    if any(isinstance(module, MaskedLayer) for module in layers.values()):
        raise RegimeError("release: the model holds masks. Call shrink() first, and release the zeros that are left.")
    chance, filled = seeded(seed), 0
    for module in layers.values():
        weight = module.weight
        if not isinstance(weight, nn.Parameter) or not weight.is_floating_point():
            continue
        if is_sharded(weight):
            raise RegimeError("release: the weights are spread over processes. Release them in one, before that.")
        empty = weight == 0
        living = int((~empty).sum())
        if not living or living == weight.numel():
            continue
        size = noise * float((weight.double().square().sum() / living).sqrt())
        drawn = size * torch.randn(weight.shape, generator=chance, dtype=torch.float64)
        weight.copy_(torch.where(empty, drawn.to(weight), weight))
        filled += int(empty.sum())
    return filled
