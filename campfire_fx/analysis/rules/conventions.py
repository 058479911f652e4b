"""What the names of torch and Python tell of an operation: `relu_` and `iadd` write, and `inplace=True` does."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from campfire_fx.analysis.rules.kinds import Writes


def _operators() -> dict[Any, Callable[..., Any]]:
    """Return every operator in place, `iadd` and the like, with its plain form, as the operator module has them."""
    found = {}
    for name, function in vars(operator).items():
        plain = getattr(operator, name[1:], None) or getattr(operator, f"{name[1:]}_", None)
        if name.startswith("i") and plain is not None:
            found[function] = plain
    return found


IN_PLACE = _operators()
"""Operators in place, with the form that makes a new object."""
ITEMS = (operator.setitem, operator.delitem, "__setitem__", "__delitem__")
RESHAPES = frozenset("unsqueeze_ squeeze_ t_ transpose_ resize_ resize_as_ swapaxes_ swapdims_ set_".split())
"""Methods in place that leave a tensor in another shape."""
# Methods of lists and dicts that change them.
_CHANGES = frozenset("append extend insert update setdefault pop popitem clear remove sort reverse".split())


def writes_by_name(target: Any) -> Writes:
    """Return what a function, a class of modules or the method of this name writes, as far as its name tells."""
    if isinstance(target, str):
        if target in _CHANGES or target in ITEMS:
            return Writes.PART
        is_operator = target.startswith("__i") and getattr(operator, target[2:-2], None) in IN_PLACE
        return Writes.FIRST if is_operator or _is_marked(target) else Writes.NOTHING
    if target in ITEMS:
        return Writes.PART
    if target in IN_PLACE or (_is_marked(getattr(target, "__name__", "")) and _from_torch(target)):
        return Writes.FIRST
    return Writes.OPTION if place_of(target, "inplace") is not None else Writes.NOTHING


def _is_marked(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


def _from_torch(target: Any) -> bool:
    module = getattr(target, "__module__", None) or ""
    return getattr(torch, target.__name__, None) is target or module == "torch" or module.startswith("torch.")


@functools.cache
def place_of(function: Any, name: str) -> int | None:
    """Return the place of an argument among those of a Python function or a class of modules."""
    is_class = isinstance(function, type) and issubclass(function, nn.Module)
    try:
        names = list(inspect.signature(function).parameters) if is_class or inspect.isfunction(function) else []
    except (TypeError, ValueError):
        names = []
    return names.index(name) if name in names else None
