"""Shapes of common operations' results, told without running them.

Torch's own meta code for these is Python of 0.3 to 1.4 ms a call, which would be most of the time of a capture.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

META = torch.device("meta")
_SHAPE_KEEPERS = (
    nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.Mish,
    nn.Dropout, nn.Dropout2d, nn.Dropout3d, nn.Identity,
)  # fmt: skip
_SHAPE_KEEPING = frozenset({F.relu, torch.relu, F.silu, F.gelu, F.hardswish, torch.sigmoid, F.sigmoid, F.dropout})
_BROADCASTING = frozenset(
    {operator.add, operator.sub, operator.mul, operator.truediv, operator.iadd, torch.add, torch.mul}
)
_JOINING = frozenset({torch.cat, torch.concat})


def keeps_shape(module: nn.Module, x: torch.Tensor) -> bool:
    """Return whether `module` surely gives a tensor of the shape and dtype of `x`."""
    if type(module) in _SHAPE_KEEPERS:
        return True
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and x.dim() > 1:
        # What does not fit goes the slow way, to raise torch's own error.
        dims = {nn.BatchNorm1d: (2, 3), nn.BatchNorm2d: (4,), nn.BatchNorm3d: (5,)}.get(type(module), ())
        return x.dim() in dims and x.shape[1] == module.num_features
    return False


def known_result(node: fx.Node, args: Any, kwargs: Any) -> torch.Tensor | None:
    """Return the result of some common functions of tensors; None: run the function to know."""
    if node.target in _JOINING and args and kwargs.keys() <= {"dim"}:
        return _joined(*args, **kwargs)
    if not args or not isinstance(args[0], torch.Tensor) or not args[0].is_floating_point():
        return None
    x = args[0]
    if node.target in _SHAPE_KEEPING or (node.target is F.batch_norm and _normalises(x, args[1:5])):
        return x
    if node.target not in _BROADCASTING or len(args) != 2:
        return None
    y = args[1]
    if isinstance(y, (int, float)) or (isinstance(y, torch.Tensor) and y.dtype == x.dtype and y.shape == x.shape):
        return x
    if isinstance(y, torch.Tensor) and y.dtype == x.dtype and node.target is not operator.iadd:
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
