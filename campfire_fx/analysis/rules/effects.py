"""What a call writes: the one answer that capture, constants, aliases and rewriting read."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from campfire_fx.analysis.rules.conventions import place_of, writes_by_name
from campfire_fx.analysis.rules.kinds import Writes
from campfire_fx.analysis.rules.record import lookup, parts


def is_in_place(module: nn.Module) -> bool:
    """Return whether a module was told to write its output over its input."""
    if not module.__dict__.get("inplace", False):
        return False
    rule = lookup(type(module))
    return rule is None or rule.writes is Writes.OPTION


def returns_written(node: fx.Node) -> bool:
    """Return whether `node`, which calls no module, changes a tensor that it is given and returns that tensor."""
    if node.op not in ("call_function", "call_method"):
        return False
    if node.kwargs.get("out") is not None:
        return True
    effect = _effect(node.target)
    return effect is Writes.FIRST or (effect is Writes.OPTION and _given(node, "inplace"))


def writes(node: fx.Node) -> bool:
    """Return whether `node`, which calls no module, changes something that it is given, returned or not."""
    called = node.op in ("call_function", "call_method")
    return called and (_effect(node.target) is Writes.PART or returns_written(node))


def writes_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Return whether a call changes what it is given."""
    return writes(node) if module is None else is_in_place(module)


def written(node: fx.Node) -> list[fx.Node]:
    """Return the nodes whose values a node that writes changes: its first argument, or what it is given as `out`."""
    target = node.kwargs.get("out")
    if target is None:
        target = node.args[0] if node.args else node.kwargs.get("input")
    return parts(target, fx.Node)


def _effect(target: Any) -> Writes:
    rule = lookup(target)
    return writes_by_name(target) if rule is None or rule.writes is None else rule.writes


def _given(node: fx.Node, name: str) -> bool:
    """Return whether a function's argument of this name is given, by its place or by name, and true."""
    if name in node.kwargs:
        return bool(node.kwargs[name])
    place = place_of(node.target, name)
    return place is not None and place < len(node.args) and bool(node.args[place])
