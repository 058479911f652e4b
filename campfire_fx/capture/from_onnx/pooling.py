"""Pooling, and the padding that convolutions and pools of ONNX share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from campfire_fx.capture.from_onnx.values import Call

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def padded(x: Tensor, kernel: Sequence[int], call: Call, value: float = 0.0) -> tuple[Tensor, tuple[int, ...]]:
    """Return an input, and the padding that is left for torch's own call: the same at both ends of an axis.

    Where the ends differ, or depend on the size of the image (`auto_pad`), the input is padded here.
    """
    dims = len(kernel)
    how = call.attribute("auto_pad", "NOTSET")
    pads = list(call.attribute("pads", (0,) * 2 * dims))
    if how in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same(x, kernel, call, upper=how == "SAME_UPPER")
    elif how == "VALID":
        pads = [0] * (2 * dims)
    if pads[:dims] == pads[dims:]:
        return x, tuple(pads[:dims])
    flat = [width for axis in reversed(range(dims)) for width in (pads[axis], pads[dims + axis])]
    return F.pad(x, flat, "constant", value), (0,) * dims


def _same(x: Tensor, kernel: Sequence[int], call: Call, *, upper: bool) -> list[Any]:
    strides, dilations = (call.attribute(name, (1,) * len(kernel)) for name in ("strides", "dilations"))
    first, last = [], []
    for size, taps, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        whole = max((-(-size // stride) - 1) * stride + dilation * (taps - 1) + 1 - size, 0)
        first.append(whole // 2 if upper else whole - whole // 2)
        last.append(whole - whole // 2 if upper else whole // 2)
    return first + last


def _max_pool(call: Call) -> Any:
    kernel, dims = call.attribute("kernel_shape"), len(call.attribute("kernel_shape"))
    x, padding = padded(call.tensor(), kernel, call, -math.inf)
    stride, dilation = (tuple(call.attribute(name, (1,) * dims)) for name in ("strides", "dilations"))
    ceil = bool(call.attribute("ceil_mode", 0))
    return _MAX[dims](x, tuple(kernel), stride, padding, dilation, ceil_mode=ceil)


def _average_pool(call: Call) -> Tensor:
    kernel, dims = call.attribute("kernel_shape"), len(call.attribute("kernel_shape"))
    counted = bool(call.attribute("count_include_pad", 0))
    given = call.tensor()
    x, padding = padded(given, kernel, call)
    if x is not given and not counted:
        raise call.node.refused("it pads one side more than the other, and does not count what it pads")
    if any(one != 1 for one in call.attribute("dilations", (1,))):
        raise call.node.refused("it is dilated")
    stride = tuple(call.attribute("strides", (1,) * dims))
    return _MEAN[dims](x, tuple(kernel), stride, padding, bool(call.attribute("ceil_mode", 0)), counted)


def _over_image(call: Call) -> tuple[int, ...]:
    return tuple(range(2, call.tensor().ndim))


POOLING: dict[str, Callable[[Call], Any]] = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda call: call.tensor().mean(_over_image(call), keepdim=True),
    "GlobalMaxPool": lambda call: call.tensor().amax(_over_image(call), keepdim=True),
}
"""What a pool does, by its operator."""
