"""Operators that move, cut, join and repeat entries, and those that look at sizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from campfire_fx.capture.from_onnx.values import Call, as_tensor, numbers_of

_END = 2**31 - 1  # slices that go to the end are written as larger numbers than this


def _shape(call: Call) -> Any:
    sizes = list(call.tensor().shape)
    return numbers_of(sizes[call.attribute("start", 0) : call.attribute("end")])


def _size(call: Call) -> Any:
    return numbers_of(math.prod(call.tensor().shape), ())


def _reshape(call: Call) -> Any:
    shape, value = call.numbers("shape", 1), call.values[0]
    assert shape is not None
    if isinstance(value, np.ndarray):
        return value.reshape([int(size) for size in shape])
    if not call.attribute("allowzero", 0):
        shape = [value.shape[axis] if _is_zero(size) else size for axis, size in enumerate(shape)]
    return value.reshape(tuple(shape))


def _is_zero(size: Any) -> bool:
    return type(size) is int and size == 0


def _flatten(call: Call) -> Tensor:
    axis, x = call.attribute("axis", 1), call.tensor()
    axis = axis + x.ndim if axis < 0 else axis
    return torch.flatten(x, 1) if axis == 1 else x.reshape(math.prod(x.shape[:axis]), -1)


def _squeeze(call: Call) -> Any:
    axes, value = call.numbers("axes", 1), call.values[0]
    if isinstance(value, np.ndarray):
        return value.reshape(()) if value.size == 1 else value
    return value.squeeze() if axes is None else value.squeeze(tuple(int(axis) for axis in axes))


def _unsqueeze(call: Call) -> Any:
    value = call.values[0]
    rank = value.ndim + len(axes := call.numbers("axes", 1) or [])
    for axis in sorted(int(axis) % rank for axis in axes):
        value = np.expand_dims(value, axis) if isinstance(value, np.ndarray) else value.unsqueeze(axis)
    return value


def _concat(call: Call) -> Any:
    if all(isinstance(value, np.ndarray) for value in call.values):
        return np.concatenate([value.reshape(-1) for value in call.values])
    return torch.cat([call.tensor(i) for i in range(len(call.values))], call.attribute("axis"))


def _split(call: Call) -> Any:
    x, axis, sizes = call.tensor(), call.attribute("axis", 0), call.numbers("split", 1)
    if sizes is None:
        count = len(call.node.outputs)
        return torch.split(x, -(-x.shape[axis] // count), axis)
    return torch.split(x, [int(size) for size in sizes], axis)


def _slice(call: Call) -> Any:
    value, starts, ends = call.values[0], call.numbers("starts", 1), call.numbers("ends", 2)
    assert starts is not None and ends is not None
    axes = call.numbers("axes", 3) or list(range(len(starts)))
    steps = call.numbers("steps", 4) or [1] * len(starts)
    cuts: list[Any] = [slice(None)] * value.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0 and not isinstance(value, np.ndarray):
            raise call.node.refused("it goes backwards")
        last = None if type(end) is int and abs(end) >= _END else end
        cuts[int(axis)] = slice(start, last, step)
    return value[tuple(cuts)]


def _gather(call: Call) -> Any:
    value, places, axis = call.values[0], call.values[1], call.attribute("axis", 0)
    if isinstance(value, np.ndarray) and isinstance(places, np.ndarray):
        picked = [value.reshape(-1)[int(place)] for place in places.reshape(-1)]
        return numbers_of(picked, places.shape)
    x = as_tensor(value, call)
    if isinstance(places, np.ndarray) and places.ndim == 0:
        return x.select(axis, int(places.item()))
    index = as_tensor(places, call)
    taken = x.index_select(axis, torch.where(index < 0, index + x.shape[axis], index).reshape(-1))
    return taken if index.ndim == 1 else taken.unflatten(axis, tuple(index.shape))


def _expand(call: Call) -> Any:
    shape, value = call.numbers("shape", 1), call.values[0]
    assert shape is not None
    if isinstance(value, np.ndarray):
        return np.broadcast_to(value, np.broadcast_shapes(value.shape, tuple(int(size) for size in shape)))
    new = len(shape) - value.ndim
    keep = [i >= new and _is_one(size) for i, size in enumerate(shape)]  # 1: as it is
    return value.expand([-1 if kept else size for kept, size in zip(keep, shape, strict=True)])


def _is_one(size: Any) -> bool:
    return type(size) is int and size == 1


def _filled(call: Call) -> Any:
    """ConstantOfShape: numbers where it is short, as sizes are, else a tensor."""
    shape, held = call.numbers("shape", 0) or [], call.attribute("value", np.zeros(1, np.float32))
    if held.dtype.kind in "iub" and len(shape) <= 1 and all(type(size) is int for size in shape):
        return numbers_of([held.reshape(-1)[0].item()] * math.prod(shape), tuple(shape))
    return torch.full(tuple(shape), held.reshape(-1)[0].item(), dtype=torch.from_numpy(held.copy()).dtype)


def _range(call: Call) -> Any:
    start, end, step = (value.reshape(-1)[0] for value in call.values)
    if all(type(one) is int for one in (start, end, step)):
        return numbers_of(list(range(start, end, step)))
    return torch.arange(start, end, step)


_PADS = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _pad(call: Call) -> Tensor:
    x, pads, mode = call.tensor(), call.numbers("pads", 1), call.attribute("mode", "constant")
    assert pads is not None
    axes = [int(axis) % x.ndim for axis in call.numbers("axes", 3) or range(x.ndim)]
    ends = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
    widths = [ends.get(axis, (0, 0)) for axis in range(x.ndim)]
    first = next((axis for axis, pair in enumerate(widths) if not all(map(_is_zero, pair))), x.ndim)
    widths = widths[first if mode == "constant" else min(first, 2) :]  # other modes take whole images
    flat = [width for pair in reversed(widths) for width in pair]
    if mode == "constant":
        return F.pad(x, flat, "constant", float(call.number("value", 2, 0.0)))
    return F.pad(x, flat, _PADS[mode])


def _resize(call: Call) -> Tensor:
    """Resize and Upsample, where torch's interpolation is the same; else it is refused."""
    x, old = call.tensor(), call.node.op == "Upsample"
    mode = call.attribute("mode", "nearest")
    where = call.attribute("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    sizes = None if old else call.numbers("sizes", 3)
    scales = call.numbers("scales", 1 if old or (len(call.values) == 2 and call.node.opset < 11) else 2) or None
    axes = call.numbers("axes", -1) if "axes" in call.node.attributes else None
    if axes is not None or call.attribute("antialias", 0) or call.attribute("keep_aspect_ratio_policy") not in _STRETCH:
        raise call.node.refused("torch has no such way of resizing")
    if sizes is not None and (sizes[0] != x.shape[0] or sizes[1] != x.shape[1]):
        raise call.node.refused("it resizes more than the image")
    places: dict[str, Any] = {} if sizes is None else {"size": tuple(sizes[2:])}
    if sizes is None:
        assert scales is not None
        places = {"scale_factor": tuple(float(scale) for scale in scales[2:])}
    if mode == "nearest":
        rounding = call.attribute("nearest_mode", "floor" if old else "round_prefer_floor")
        whole = sizes is None and all(float(scale).is_integer() for scale in places["scale_factor"])
        if (where, rounding) == ("asymmetric", "floor") or whole:
            return F.interpolate(x, **places, mode="nearest")
        raise call.node.refused(f"it takes the nearest by {where} and {rounding}")
    form = {"linear": {3: "linear", 4: "bilinear", 5: "trilinear"}.get(x.ndim), "cubic": "bicubic"}.get(mode)
    if form is None or where not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise call.node.refused(f"it resizes {mode} by {where}")
    return F.interpolate(x, **places, mode=form, align_corners=where == "align_corners")


_STRETCH = (None, "stretch")


def _depth_to_space(call: Call) -> Tensor:
    x, block = call.tensor(), call.attribute("blocksize")
    if call.attribute("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    n, c, h, w = x.shape
    moved = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return moved.reshape(n, c // block**2, h * block, w * block)


def _space_to_depth(call: Call) -> Tensor:
    x, block = call.tensor(), call.attribute("blocksize")
    n, c, h, w = x.shape
    moved = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return moved.reshape(n, c * block**2, h // block, w // block)


def _transpose(call: Call) -> Any:
    if isinstance(value := call.values[0], np.ndarray):
        return value.transpose(call.attribute("perm"))
    x = call.tensor()
    return x.permute(tuple(call.attribute("perm") or reversed(range(x.ndim))))


def _tile(call: Call) -> Tensor:
    return call.tensor().repeat(tuple(call.numbers("repeats", 1) or ()))


MOVEMENT: dict[str, Callable[[Call], Any]] = {
    "Shape": _shape,
    "Size": _size,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Expand": _expand,
    "Tile": _tile,
    "ConstantOfShape": _filled,
    "Range": _range,
    "Pad": _pad,
    "Resize": _resize,
    "Upsample": _resize,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
"""What a node that moves entries does, by its operator."""
