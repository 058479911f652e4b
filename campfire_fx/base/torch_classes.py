"""Whose computation a module performs: that of a class of torch.nn, or its own.

A subclass performs its base's computation while it adds things and overrides none that `forward` may use.
"""

from __future__ import annotations

import functools
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
# What a subclass may define without changing what forward() computes.
_HARMLESS = frozenset({
    "__init__", "__new__", "__module__", "__doc__", "__repr__", "__annotations__", "__parameters__", "__constants__",
    "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__", "__annotate__", "__annotate_func__",
    "__hash__", "__slots__", "__orig_bases__", "__qualname__", "extra_repr", "reset_parameters", "_init_weights",
    "init_weights", "train", "eval", "state_dict", "load_state_dict", "_load_from_state_dict", "_save_to_state_dict",
    "_version", "__setstate__", "__getstate__", "__deepcopy__", "__reduce_ex__", "register_parameter", "_apply",
    "backward",
})  # fmt: skip


def torch_class(module: nn.Module) -> type[nn.Module] | None:
    """Return the public class of torch.nn whose computation a module performs; None: its own, or it is a container.

    Hooks, and parametrizations, which change what it computes with, are not looked at.
    """
    cls: Any = type_before_parametrizations(module)
    return None if "forward" in vars(module) else _public_class(cls)


def is_torchs_own(module: nn.Module) -> bool:
    """Return whether a module performs the computation of some class of torch's, public or not; of torch.ao as well."""
    cls: Any = type(module)
    return "forward" not in vars(module) and _is_torchs_own(cls)


def overridden(cls: type, base: type) -> str:
    """Return the name of what a subclass overrides that the forward of `base` may use; "" if there is nothing."""
    for owner in cls.__mro__[: cls.__mro__.index(base)]:
        for name, value in vars(owner).items():
            if name not in _HARMLESS and (hasattr(base, name) or isinstance(value, property)):
                return name
    return ""


@functools.cache
def _public_class(cls: type[nn.Module]) -> type[nn.Module] | None:
    base = next((base for base in cls.__mro__ if _is_public(base)), nn.Module)
    return base if _inherits(cls, base) else None


@functools.cache
def _is_torchs_own(cls: type[nn.Module]) -> bool:
    return _inherits(cls, next(base for base in cls.__mro__ if _from_torch(base)))


def _inherits(cls: type[nn.Module], base: type[nn.Module]) -> bool:
    computes = cls.forward is base.forward is not nn.Module.forward and not issubclass(cls, _CONTAINERS)
    return computes and not overridden(cls, base)


def _is_public(cls: type) -> bool:
    return getattr(nn, cls.__name__, None) is cls


def _from_torch(cls: type) -> bool:
    return cls.__module__.startswith(("torch.nn.", "torch.ao.nn."))
