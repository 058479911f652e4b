"""What an operation writes: the one answer that capture, constants, liveness and rewriting read."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn


def _operators() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return every operator in place, `iadd` and the like, with its plain form, as the operator module has them."""
    found = {}
    for name, function in vars(operator).items():
        plain = getattr(operator, name[1:], None) or getattr(operator, f"{name[1:]}_", None)
        if name.startswith("i") and plain is not None:
            found[function] = plain
    return found


IN_PLACE = _operators()
ITEMS = (operator.setitem, operator.delitem)
# Methods of lists and dicts that change them.
_CHANGES = frozenset("append extend insert update setdefault pop popitem clear remove sort reverse".split())
_ITEM_METHODS = ("__setitem__", "__delitem__")


def is_in_place(module: nn.Module) -> bool:
    """Return whether a module was told to write its output over its input."""
    return bool(module.__dict__.get("inplace", False))


def returns_written(node: fx.Node) -> bool:
    """Return whether `node`, which calls no module, changes a tensor that it is given and returns that tensor."""
    if "out" in node.kwargs and node.kwargs["out"] is not None:
        return True
    if node.op == "call_method":
        name = str(node.target)
        return _is_marked(name) or (name.startswith("__i") and getattr(operator, name[2:-2], None) in IN_PLACE)
    if node.op != "call_function":
        return False
    if node.target in IN_PLACE or _given(node, "inplace"):
        return True
    return _is_marked(getattr(node.target, "__name__", "")) and _from_torch(node.target)


def _is_marked(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


def writes(node: fx.Node) -> bool:
    """Return whether `node`, which calls no module, changes something that it is given, returned or not."""
    if node.op == "call_method" and (node.target in _CHANGES or node.target in _ITEM_METHODS):
        return True
    return node.target in ITEMS or returns_written(node)


def written(node: fx.Node) -> list[fx.Node]:
    """Return the nodes whose values a node that writes changes: its first argument, or what it is given as `out`."""
    target = node.kwargs.get("out")
    if target is None:
        target = node.args[0] if node.args else node.kwargs.get("input")
    found: list[fx.Node] = []
    fx.map_arg(target, found.append)
    return found


def _given(node: fx.Node, name: str) -> bool:
    """Return whether a function's argument of this name is given, by its place or by name, and true."""
    if name in node.kwargs:
        return bool(node.kwargs[name])
    place = _place(node.target, name)
    return place is not None and place < len(node.args) and bool(node.args[place])


@functools.cache
def _place(function: Any, name: str) -> int | None:
    """Return the place of an argument among those of a Python function."""
    try:
        names = list(inspect.signature(function).parameters) if inspect.isfunction(function) else []
    except (TypeError, ValueError):
        names = []
    return names.index(name) if name in names else None


def _from_torch(target: Any) -> bool:
    module = getattr(target, "__module__", None) or ""
    return getattr(torch, target.__name__, None) is target or module == "torch" or module.startswith("torch.")
