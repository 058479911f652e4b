"""Calls of `torch.ops.aten`, which the graphs of torch.export are made of, as calls of the functions people write."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from campfire_fx.base.compat import schema_of

_NO_END = 1 << 62


class PlainCall(NamedTuple):
    """A call as a graph holds it: kind ("call_function" or "call_method"), target and arguments."""

    kind: str
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def plain_call(overload: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PlainCall | None:
    """Return what an overload of `torch.ops.aten` is called outside of exported graphs; None where it has no such name.

    A function of torch with the same name takes the same arguments; one of torch.nn.functional takes those that it
    names and needs; what is neither is a method of tensors.
    """
    space, _, name = schema_of(overload).name.partition("::")
    if space != "aten":
        return None
    if name in _REWRITTEN:
        return _REWRITTEN[name](*args, **kwargs)
    function = getattr(torch, name, None)
    if inspect.isbuiltin(function):
        return PlainCall("call_function", function, args, kwargs)
    functional = getattr(F, name, None) or getattr(F, name.removesuffix("_"), None)
    if functional is not None:
        return _functional(overload, functional, name, args, kwargs)
    return PlainCall("call_method", name, args, kwargs) if hasattr(torch.Tensor, name) else None


def _functional(
    overload: Any, function: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> PlainCall | None:
    if inspect.isbuiltin(function):
        return PlainCall("call_function", function, args, kwargs)
    known = inspect.signature(function).parameters
    names = (argument.name for argument in schema_of(overload).arguments)
    given = dict(zip(names, args, strict=False)) | kwargs
    first = next(iter(given))
    named = {key: value for key, value in given.items() if key in known and key != first}
    needed = [key for key, parameter in known.items() if parameter.default is inspect.Parameter.empty][1:]
    if not named.keys() >= set(needed) and hasattr(torch.Tensor, name):  # of the same name, and another operation
        return PlainCall("call_method", name, args, kwargs)
    if name.endswith("_") and not function.__name__.endswith("_"):
        if "inplace" not in known:
            return None
        named["inplace"] = True
    return PlainCall("call_function", function, (given[first],), named)


def _slice(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1) -> PlainCall:
    cut = slice(start, None if isinstance(end, int) and end >= _NO_END else end, step)
    before = (slice(None),) * dim if dim >= 0 else (Ellipsis,)
    return PlainCall("call_function", operator.getitem, (x, (*before, cut, *(slice(None),) * (-dim - 1))), {})


def _alias(x: Any) -> PlainCall:
    return PlainCall("call_function", operator.getitem, (x, Ellipsis), {})


def _size(x: Any, dim: int) -> PlainCall:
    return PlainCall("call_method", "size", (x, dim), {})


def _nearest(x: Any, size: Any, scale: Any = None, *more: Any) -> PlainCall | None:
    return None if more else _interpolate(x, size, scale, "nearest", None)


def _smooth(mode: str) -> Callable[..., PlainCall | None]:
    def call(x: Any, size: Any, align: Any, scale: Any = None, *more: Any) -> PlainCall | None:
        return None if more else _interpolate(x, size, scale, mode, align)

    return call


def _interpolate(x: Any, size: Any, scale: Any, mode: str, align: Any) -> PlainCall | None:
    if (size is None) is (scale is None) or isinstance(scale, float):
        return None
    options = {"size": size, "scale_factor": scale, "mode": mode, "align_corners": align}
    return PlainCall("call_function", F.interpolate, (x,), options)


def _dropout_of_channels(x: Any, p: float, train: bool) -> PlainCall:
    return PlainCall("call_function", F.dropout2d, (x, p, train), {})


_REWRITTEN: dict[str, Callable[..., PlainCall | None]] = {
    "slice": _slice,
    "alias": _alias,
    "sym_size": _size,
    "feature_dropout": _dropout_of_channels,
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"), _nearest),
    "upsample_linear1d": _smooth("linear"),
    "upsample_bilinear2d": _smooth("bilinear"),
    "upsample_trilinear3d": _smooth("trilinear"),
    "upsample_bicubic2d": _smooth("bicubic"),
}
