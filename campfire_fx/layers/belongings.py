"""What of a model's own a captured model keeps: attributes that are plain data, and the methods of its class."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

from campfire_fx.base.compat import children_of, parameters_of

_ATOMS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, PurePath)
_OWN = frozenset(vars(nn.Module()))
_DEPTH = 6
_MISSING = object()
# Ways to layers that code does not name.
_WALKS = frozenset({"getattr", "children", "named_children", "modules", "named_modules", "get_submodule", "_modules"})


def plain_attributes(source: nn.Module, target: nn.Module, *, objects: bool) -> dict[str, Any]:
    """Return the attributes of `source` that are data and that `target` lacks: numbers, texts, lists and dicts of them.

    With `objects`, also what only holds some, as configurations do.
    """
    return {
        name: value
        for name, value in source.__dict__.items()
        if name not in _OWN
        and name not in target.__dict__
        and not hasattr(type(target), name)
        and (_is_data(value, _DEPTH) if objects else is_built_in(value))
    }


def without_objects(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return attributes without the configurations among them, whose classes a file would need."""
    return {
        name: value
        for name, value in attributes.items()
        if name in _OWN or is_built_in(value) or isinstance(value, dict) or not _is_data(value, _DEPTH)
    }


def is_built_in(value: Any, depth: int = _DEPTH) -> bool:
    """Return whether `value` is data of Python's and torch's own types, which a file holds without other code."""
    if isinstance(value, _ATOMS):
        return True
    if type(value) is dict:
        return depth > 0 and all(is_built_in(part, depth - 1) for pair in value.items() for part in pair)
    return type(value) in (list, tuple, set) and depth > 0 and all(is_built_in(item, depth - 1) for item in value)


def _is_data(value: Any, depth: int) -> bool:
    """Return whether `value` holds plain data: also objects that only hold some, as configurations do."""
    if isinstance(value, _ATOMS):
        return True
    if depth == 0 or callable(value) or isinstance(value, (torch.Tensor, ModuleType)):
        return False
    if isinstance(value, dict):
        return all(_is_data(part, depth - 1) for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple, set)):
        return all(_is_data(item, depth - 1) for item in value)
    inside = getattr(value, "__dict__", None)
    is_users = type(value).__module__.partition(".")[0] not in {"torch", "builtins"}
    return is_users and isinstance(inside, dict) and all(_is_data(item, depth - 1) for item in inside.values())


class OriginalClass:
    """The class of the model that was captured. In a file it is a name: what loads the file need not have the code."""

    def __init__(self, cls: type) -> None:
        self.cls: type | None = cls

    def attribute(self, model: nn.Module, name: str, *, layers_changed: bool) -> Any:
        """Return what the class has under `name`, bound to `model`.

        Raises AttributeError where that is nothing, or, with `layers_changed`, where it uses the layers themselves.
        """
        value = _MISSING if name.startswith("__") else _of_users(self.cls, name)
        if value is _MISSING:
            raise AttributeError(f"{type(model).__name__!r} object has no attribute {name!r}")
        layers = _layers_used(self.cls, value, model, set()) if layers_changed else set()
        if layers:
            raise AttributeError(
                f"{name} at {type(model).__name__}: it uses {', '.join(sorted(layers))} directly, and layers are "
                "smaller here. Call it on the model given to shrink."
            )
        return value.__get__(model, self.cls) if hasattr(value, "__get__") else value

    def __deepcopy__(self, memo: dict[int, Any]) -> OriginalClass:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"name": None if self.cls is None else (self.cls.__module__, self.cls.__qualname__)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Find the class again if its module has been imported; a file imports nothing."""
        module, qualified = state["name"] or ("", "")
        found: Any = sys.modules.get(module)
        for part in qualified.split("."):
            found = getattr(found, part, None)
        self.cls = found if isinstance(found, type) else None


def _of_users(cls: type | None, name: str) -> Any:
    """Return what a class of the user's has under `name`, unbound; nothing of what it inherits from torch."""
    for owner in () if cls is None else cls.__mro__:
        if name in vars(owner):
            is_torch = owner.__module__.partition(".")[0] in ("torch", "builtins")
            return _MISSING if is_torch else vars(owner)[name]
    return _MISSING


def _layers_used(cls: type | None, value: Any, model: nn.Module, seen: set[int]) -> set[str]:
    """Return the names of layers and weights that code uses by itself, or of ways to them; not those of forward."""
    used: set[str] = set()
    for code in _codes(value):
        if id(code) in seen:
            continue
        seen.add(id(code))
        for name in code.co_names:
            if name in children_of(model) or name in parameters_of(model) or name in _WALKS:
                used.add(name)
            elif name != "forward":
                used |= _layers_used(cls, _of_users(cls, name), model, seen)
    return used


def _codes(value: Any) -> Iterator[CodeType]:
    functions: tuple[Any, ...] = (
        (value.fget, value.fset) if isinstance(value, property) else (getattr(value, "__func__", value),)
    )
    for function in functions:
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        if isinstance(function, FunctionType):
            yield from _nested(function.__code__)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
