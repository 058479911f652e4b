"""Dead norms: the BatchNorm channels behind filters that died, zeroed with them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import unserializable_hook

from campfire_fx.base.sharding import local, part_of
from campfire_fx.base.zeroing import selector, zero_
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.passes.insert_masks import Norm


def dead_norms(model: nn.Module, norms: Sequence[Norm]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what must be zero where filters are dead, each with its factor of 0 and 1.

    That is weight, bias and running mean of the norms, and the biases of the convolutions. The gradient of a norm's
    bias is zeroed too from then on: it reaches a dead channel by way of a residual sum, and clipping would count it.
    """
    for norm in norms:
        layers = _layers(model, norm)
        for layer in layers:
            factor = layer.live_filters()
            if isinstance(layer.bias, Tensor) and factor is not None:
                yield layer.bias, part_of(selector(factor, layer.bias), layer.bias)
        factor = _live_channels(layers)
        if factor is None:
            continue
        module = model.get_submodule(norm.path)
        for tensor in (module.weight, module.bias, module.running_mean):
            if isinstance(tensor, Tensor):
                yield tensor, part_of(selector(factor, tensor), tensor)
        if isinstance(module.bias, nn.Parameter) and module.bias.requires_grad:
            layers[0].watch("norm", module.bias, _zero_dead_gradient([weakref.ref(layer) for layer in layers]))


def _layers(model: nn.Module, norm: Norm) -> list[MaskedLayer]:
    return [layer for path in norm.convolutions if isinstance(layer := model.get_submodule(path), MaskedLayer)]


def _live_channels(layers: Sequence[MaskedLayer]) -> Tensor | None:
    """Return 0 for each channel of a norm that all of its convolutions have lost and 1 for the others; None: all."""
    live = [factor for layer in layers if (factor := layer.live_filters()) is not None]
    if not live or len(live) < len(layers):
        return None  # a convolution without a dead filter keeps every channel of the norm alive
    return torch.stack(live).amax(0)


def _zero_dead_gradient(layers: Sequence[weakref.ref[MaskedLayer]]) -> Callable[[Tensor], None]:
    @unserializable_hook  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def hook(bias: Tensor) -> None:
        alive = [layer for reference in layers if (layer := reference()) is not None]
        factor = _live_channels(alive)
        if factor is not None and bias.grad is not None:
            zero_(local(bias.grad), part_of(selector(factor, bias.grad), bias))

    return hook
