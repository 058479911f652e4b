"""Run a model in float64, also where its code says float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from campfire_fx.base.compat import pytree

_DEEPCOPY: Any = torch.Tensor.__deepcopy__


class Doubled(TorchFunctionMode):
    """Turns what would be float32 into float64, in the thread that enters it.

    Casts that the code writes out, and tensors that it makes without saying of which kind, become float64. Where an
    operation takes no float64, or not beside the float32 that some tensor still has, it runs in one of both.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is _DEEPCOPY:  # its memo holds all that was copied before
            return function(*args, **(kwargs or {}))
        if function is torch.Tensor.float:
            return args[0].double()
        args, kwargs = pytree.tree_map(lambda v: torch.float64 if v is torch.float32 else v, (args, kwargs or {}))
        try:
            return _as(torch.float32, torch.float64, function(*args, **kwargs))
        except (RuntimeError, TypeError, NotImplementedError):
            return _in_one_kind(function, args, kwargs)


def doubled(value: Any) -> Any:
    """Return inputs with floating-point tensors in float64."""
    return pytree.tree_map(lambda v: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v, value)


def _in_one_kind(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    for kind, other in ((torch.float64, torch.float32), (torch.float32, torch.float64)):
        own_args, own_kwargs = _as(other, kind, (args, kwargs))
        try:
            return _as(torch.float32, torch.float64, function(*own_args, **own_kwargs))
        except (RuntimeError, TypeError, NotImplementedError):
            continue
    return function(*args, **kwargs)  # to raise what it raised


def _as(before: torch.dtype, after: torch.dtype, value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to(after) if value.dtype is before else value
    if not isinstance(value, (tuple, list, dict)):
        return value
    return pytree.tree_map(lambda v: v.to(after) if isinstance(v, Tensor) and v.dtype is before else v, value)
