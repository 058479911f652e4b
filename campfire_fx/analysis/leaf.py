"""Which modules stay whole: those whose class, by being torch's own, says what they compute."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from campfire_fx.base.compat import children_of

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
# What a subclass may define without changing what forward() computes.
_HARMLESS = frozenset({
    "__init__", "__module__", "__doc__", "__repr__", "__annotations__", "__parameters__", "__constants__", "__dict__",
    "__weakref__", "__firstlineno__", "__static_attributes__", "__annotate__", "__annotate_func__", "__hash__",
    "__slots__", "__orig_bases__", "__qualname__", "extra_repr", "reset_parameters", "_init_weights", "init_weights",
    "train", "eval", "state_dict", "load_state_dict", "_load_from_state_dict", "_save_to_state_dict", "_version",
    "__setstate__", "__getstate__", "__deepcopy__", "backward",
})  # fmt: skip


def is_leaf(module: nn.Module) -> bool:
    """Return whether `module` is one operation: torch's own forward on torch's own terms.

    A subclass is still a leaf while it adds things and overrides none that forward may use; a module that wraps
    modules of the user's is none.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return True
    if "forward" in module.__dict__ or is_parametrized(module) or not is_torch_class(module):
        return False
    return not children_of(module) or all(_inside_torch(child) for child in module.modules())


def _inside_torch(module: nn.Module) -> bool:
    return isinstance(module, _CONTAINERS) or is_torch_class(module)


def is_torch_class(module: nn.Module) -> bool:
    """Return whether `module` computes what a class of torch.nn, that its class is or inherits from, computes."""
    cls: Any = type(module)
    return _is_torch_class(cls)


@functools.cache
def _is_torch_class(cls: type[nn.Module]) -> bool:
    if issubclass(cls, _CONTAINERS) or cls.forward is nn.Module.forward or not _from_torch(cls.forward):
        return False
    first = next(i for i, c in enumerate(cls.__mro__) if _from_torch(c))
    return not any(_overrides(subclass, cls.__mro__[first]) for subclass in cls.__mro__[:first])


def _from_torch(thing: object) -> bool:
    module = getattr(thing, "__module__", None) or ""  # code that fx generates has none
    return module.startswith(("torch.nn.", "torch.ao.nn."))


def _overrides(subclass: type, base: type) -> bool:
    """Return whether `subclass` replaces anything that the forward of `base` could reach."""
    return any(
        name not in _HARMLESS and (hasattr(base, name) or isinstance(value, property))
        for name, value in vars(subclass).items()
    )
