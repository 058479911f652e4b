"""Random weights, statistics and zeros for any model: what a shrink is tried on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def randomise(model: nn.Module, seed: int = 0, *, positive: bool = False, biases: bool = True) -> nn.Module:
    """Give every norm random statistics, scales and shifts, and every other parameter a size that can be seen.

    Args:
        model: changed in place.
        seed: of the random numbers.
        biases: also draw biases, slopes and scales outside of norms anew.
        positive: choose each norm's shift so that an input of zero comes out at 0.5 to 1.5; then every dead channel
            is a constant that no ReLU makes zero.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = {id(p) for m in model.modules() if isinstance(m, _NORMS) for p in m.parameters(recurse=False)}
    weights = {id(m.weight) for m in model.modules() if isinstance(m, (_ConvNd, nn.Linear)) and _is_plain(m)}
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _NORMS):
                _randomise_norm(module, generator, positive)
        for parameter in model.parameters() if biases else ():
            if id(parameter) in weights:
                if _is_uniform(parameter):  # a head that begins at zero
                    parameter.copy_(_normal(parameter, generator) / parameter[0].numel() ** 0.5)
            elif id(parameter) not in norms and parameter.is_floating_point():
                _make_visible(parameter, generator)
    return model


def _is_plain(module: nn.Module) -> bool:
    return isinstance(module._parameters.get("weight"), nn.Parameter)


def _is_uniform(parameter: Tensor) -> bool:
    return parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all())


def _make_visible(parameter: Tensor, generator: torch.Generator) -> None:
    """Draw anew what was made uniform (biases of 0, slopes of 0.25, layer scales of 1e-6); leave the rest."""
    if _is_uniform(parameter) or parameter.ndim <= 1:
        parameter.copy_(_uniform(parameter, 0.2, 1.0, generator) * _signs(parameter, generator))


def _randomise_norm(norm: Any, generator: torch.Generator, positive: bool) -> None:
    mean, var = getattr(norm, "running_mean", None), getattr(norm, "running_var", None)
    if mean is not None and var is not None:
        mean.copy_(_normal(mean, generator) * 0.5)
        var.copy_(_uniform(var, 0.5, 1.5, generator))
    if getattr(norm, "weight", None) is None:
        return
    norm.weight.copy_(_uniform(norm.weight, 0.5, 1.5, generator) * _signs(norm.weight, generator))
    if norm.bias is not None:
        norm.bias.copy_(_normal(norm.bias, generator) * 0.5)
        if positive:
            at_zero = -mean * norm.weight / (var + norm.eps).sqrt() if mean is not None else 0.0
            norm.bias.copy_(_uniform(norm.bias, 0.5, 1.5, generator) - at_zero)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(like)


def _uniform(like: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(like.shape, generator=generator) * (high - low) + low).to(like)


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    return (torch.randint(0, 4, like.shape, generator=generator).clamp(max=1) * 2 - 1).to(like)


def filter_mask(layer: Any, dead: Tensor) -> Tensor:
    """Return a mask (True = kept) of the weight's shape that drops the filters where `dead`, bool (outputs,)."""
    weight: Tensor = layer.weight
    if not isinstance(layer, _ConvTransposeNd):
        return (~dead).view(-1, *[1] * (weight.ndim - 1)).expand(weight.shape)
    per_group = (~dead).view(layer.groups, 1, -1).expand(-1, weight.shape[0] // layer.groups, -1).flatten(0, 1)
    return per_group.view(*per_group.shape, *[1] * (weight.ndim - 2)).expand(weight.shape)


def zero_filters(layer: Any, dead: list[int] | tuple[int, ...]) -> None:
    """Set whole filters (the weights that make one output channel) of one layer to zero; the bias stays."""
    outputs = getattr(layer, "out_channels", None) or layer.out_features
    index = torch.zeros(outputs, dtype=torch.bool)
    index[list(dead)] = True
    with torch.no_grad():
        layer.weight.mul_(filter_mask(layer, index))


def random_zeros(model: nn.Module, seed: int = 0, *, linears: bool = False) -> nn.Module:
    """Zero half of all filters and a third of all other kernels of every convolution, in place.

    Args:
        model: changed in place. Weights that are computed by a parametrization are left alone.
        seed: of the random numbers.
        linears: treat linear layers likewise (a kernel is then one weight).
    """
    generator = torch.Generator().manual_seed(seed)
    kinds = (_ConvNd, nn.Linear) if linears else (_ConvNd,)
    seen: set[int] = set()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, kinds) and _is_plain(layer) and id(layer.weight) not in seen:
                seen.add(id(layer.weight))
                _zero_layer(layer, generator)
    return model


def _zero_layer(layer: Any, generator: torch.Generator) -> None:
    weight = layer.weight
    outputs = getattr(layer, "out_channels", None) or layer.out_features
    dead = torch.zeros(outputs, dtype=torch.bool)
    dead[torch.randperm(outputs, generator=generator)[: outputs // 2]] = True
    kernels = torch.rand(weight.shape[:2], generator=generator) >= 1 / 3
    kernels = kernels.view(*kernels.shape, *[1] * (weight.ndim - 2))
    weight.mul_(filter_mask(layer, dead.to(weight.device)) & kernels.to(weight.device))


def calibrate(model: nn.Module, *args: Any, seed: int = 0, **kwargs: Any) -> nn.Module:
    """Keep the activations of a deep model sane after `random_zeros`, in place.

    In one forward pass, in order: every convolution and linear layer is scaled so that its outputs have standard
    deviation 1, and every norm with running statistics gets those that it meets, blurred by random factors. The
    variance is at least twice the mean square: with less, each layer magnifies differences, and a deep network is
    chaotic (the outputs of one Inception in float32 and in float64 then differ by 1e-2, whatever is done to it).
    """
    generator = torch.Generator().manual_seed(seed)
    with _calibrating(model, generator), torch.no_grad():
        model.eval()(*args, **kwargs)
    return model


@contextmanager
def _calibrating(model: nn.Module, generator: torch.Generator) -> Iterator[None]:
    seen: set[int] = set()
    flags = [(module, module.training) for module in model.modules()]

    def scale(layer: Any, _: Any, output: Tensor) -> Tensor:
        if id(layer.weight) in seen:
            return output
        seen.add(id(layer.weight))
        spread = float(output.std()) if output.numel() > 1 else 0.0
        if not 1e-12 < spread < 1e12:
            return output
        layer.weight.div_(spread)
        if layer.bias is not None:
            layer.bias.div_(spread)
        return output / spread

    def meet(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        if id(norm) in seen or norm.running_mean is None:
            return
        seen.add(id(norm))
        channels = inputs[0].detach().transpose(0, 1).flatten(1)
        square = float(channels.square().mean().clamp(min=1e-6))
        var = channels.var(1, correction=0).clamp(min=2 * square)
        norm.running_var.copy_(var * _uniform(var, 0.7, 1.4, generator))
        norm.running_mean.copy_(channels.mean(1) + 0.3 * var.sqrt() * _normal(var, generator))

    handles = []
    for module in model.modules():
        if isinstance(module, (_ConvNd, nn.Linear)) and _is_plain(module):
            handles.append(module.register_forward_hook(scale))
        elif isinstance(module, _NormBase):
            handles.append(module.register_forward_pre_hook(meet))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, training in flags:
            module.training = training


def outputs_of(model: nn.Module) -> int:
    """Count the output channels of all layers without bias: as many biases folding may have to make."""
    layers: list[Any] = [m for m in model.modules() if isinstance(m, (_ConvNd, nn.Linear)) and m.bias is None]
    return sum(int(getattr(layer, "out_channels", None) or layer.out_features) for layer in layers)
