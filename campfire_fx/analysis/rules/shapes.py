"""Shapes of common operations' results, told without running them.

Torch's own meta code for these is Python of 0.3 to 1.4 ms a call, which would be most of the time of a capture.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from campfire_fx.analysis.rules.kinds import ARITHMETIC, Kind, Shape, Transfer, Writes
from campfire_fx.analysis.rules.record import OpRule, lookup
from campfire_fx.base.compat import BATCH_NORM
from campfire_fx.base.torch_classes import torch_class

META = torch.device("meta")
# Class -> dimensions of space.
_CONVOLUTIONS: dict[type[nn.Module] | None, int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
_ADAPTIVE: dict[type[nn.Module] | None, int] = {
    nn.AdaptiveAvgPool1d: 1, nn.AdaptiveAvgPool2d: 2, nn.AdaptiveAvgPool3d: 3,
}  # fmt: skip


def _keeps_all(rule: OpRule) -> bool:
    """Whether an operation gives a tensor of the shape and dtype of its first argument."""
    return rule.kind in (Kind.PASS, Kind.DROP) and rule.constant is Transfer.EXECUTE


def keeps_shape(module: nn.Module, x: torch.Tensor) -> bool:
    """Return whether `module` surely gives a tensor of the shape and dtype of `x`."""
    rule = lookup(type(module))
    if rule is not None and (rule.kind is Kind.IDENTITY or (_keeps_all(rule) and x.is_floating_point())):
        return True
    if isinstance(module, BATCH_NORM) and x.dim() > 1:
        # What does not fit goes the slow way, to raise torch's own error.
        dims = {nn.BatchNorm1d: (2, 3), nn.BatchNorm2d: (4,), nn.BatchNorm3d: (5,)}.get(type(module), ())
        return x.dim() in dims and x.shape[1] == module.num_features
    return False


def shape_after(module: nn.Module, shape: torch.Size) -> torch.Size | None:
    """Return the shape that a plain convolution or an adaptive pool makes of one of `shape`; None: run it to know."""
    base = torch_class(module)
    if base in _CONVOLUTIONS:
        return _convolved(module, _CONVOLUTIONS[base], shape)
    return _pooled(module, _ADAPTIVE[base], shape) if base in _ADAPTIVE else None


def convolution_of(module: nn.Module) -> int | None:
    """Return the dimensions of space of a module that convolves as torch's own classes do; None: it does not."""
    return _CONVOLUTIONS.get(torch_class(module))


def _convolved(conv: Any, count: int, shape: torch.Size) -> torch.Size | None:
    if len(shape) not in (count + 1, count + 2) or shape[-count - 1] != conv.in_channels:
        return None
    if isinstance(conv.padding, str):
        return None
    windows = zip(shape[-count:], conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True)
    space = [
        (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
        for size, taps, stride, padding, dilation in windows
    ]
    return torch.Size((*shape[: -count - 1], conv.out_channels, *space)) if min(space) > 0 else None


def _pooled(pool: Any, count: int, shape: torch.Size) -> torch.Size | None:
    if len(shape) not in (count + 1, count + 2):
        return None
    wanted = pool.output_size if isinstance(pool.output_size, tuple) else (pool.output_size,) * count
    space = [size if fixed is None else fixed for size, fixed in zip(shape[-count:], wanted, strict=True)]
    return torch.Size((*shape[:-count], *space))


def known_result(node: fx.Node, args: Any, kwargs: Any) -> torch.Tensor | None:
    """Return the result of some common functions of tensors; None: run the function to know."""
    rule = lookup(node.target)
    if rule is None:
        return None
    if rule.sizes is Shape.JOINED and args and kwargs.keys() <= {"dim"}:
        return _joined(*args, **kwargs)
    if not args or not isinstance(args[0], torch.Tensor) or not args[0].is_floating_point():
        return None
    x = args[0]
    if _keeps_all(rule) or (rule.kind is Kind.PER_CHANNEL and _normalises(x, args[1:5])):
        return x
    if rule.kind not in ARITHMETIC or len(args) != 2 or "out" in kwargs:
        return None
    y = args[1]
    if isinstance(y, (int, float)) or (isinstance(y, torch.Tensor) and y.dtype == x.dtype and y.shape == x.shape):
        return x
    if isinstance(y, torch.Tensor) and y.dtype == x.dtype and rule.writes is not Writes.FIRST:
        return torch.empty(torch.broadcast_shapes(x.shape, y.shape), dtype=x.dtype, device=META)
    return None


def _normalises(x: torch.Tensor, statistics: Any) -> bool:
    """Return whether statistics, scale and shift, as far as they are given, fit the channels of `x`."""
    given = [vector for vector in statistics if isinstance(vector, torch.Tensor)]
    return x.dim() > 1 and bool(given) and all(vector.shape == x.shape[1:2] for vector in given)


def _joined(tensors: Any, dim: Any = 0) -> torch.Tensor | None:
    """Return tensors of one dtype put together; None: what is odd goes the slow way."""
    first = tensors[0] if isinstance(tensors, (tuple, list)) and tensors else None
    if not isinstance(first, torch.Tensor) or not isinstance(dim, int) or not -first.dim() <= dim < first.dim():
        return None
    dim %= first.dim()
    shape, total = first.shape, 0
    for tensor in tensors:
        if not isinstance(tensor, torch.Tensor) or tensor.dtype != first.dtype or tensor.dim() != len(shape):
            return None
        if tensor.shape[:dim] != shape[:dim] or tensor.shape[dim + 1 :] != shape[dim + 1 :]:
            return None
        total += tensor.shape[dim]
    return torch.empty((*shape[:dim], total, *shape[dim + 1 :]), dtype=first.dtype, device=META)
