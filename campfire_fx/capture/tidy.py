"""Put a fresh graph in order: value semantics for operations in place, and no leftovers of questions."""

from __future__ import annotations

import builtins
import math
import operator
from typing import Any

import torch
from torch import fx

from campfire_fx.capture.proxy import IN_PLACE
from campfire_fx.capture.survey import Survey

# Methods of lists and dicts that change them.
_CHANGES = frozenset("append extend insert update setdefault pop popitem clear remove sort reverse".split())
_ITEMS = (operator.setitem, operator.delitem)
_ASKING_METHODS = frozenset("size dim ndimension numel nelement stride element_size is_floating_point".split())
_ASKING_FUNCTIONS = (
    {getattr, torch.is_floating_point, torch.numel}
    | {getattr(builtins, name) for name in "len int float max min round pow divmod abs".split()}
    | {value for name, value in vars(operator).items() if callable(value) and not name.startswith("_")}
    | {value for name, value in vars(math).items() if callable(value) and not name.startswith("_")}
) - {*IN_PLACE, *_ITEMS}
_FRESH = frozenset(set(IN_PLACE.values()) | {torch.cat, torch.add, torch.mul, torch.sub})


def tidy(graph: fx.Graph, survey: Survey) -> None:
    """Put `graph`, a trace of the model surveyed, in order. What it computes stays the same, to the bit."""
    rename_after_changes(graph, survey)
    drop_unused_questions(graph)
    prefer_plain_operators(graph, survey)


def returns_first_argument(node: fx.Node) -> bool:
    """Return whether `node`, which calls no module, changes its first argument in place and returns it."""
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    if node.op != "call_function":
        return False
    name = getattr(node.target, "__name__", "")
    return (
        node.target in IN_PLACE
        or node.kwargs.get("inplace") is True
        or (name.endswith("_") and not name.endswith("__") and _from_torch(node.target))
    )


def _from_torch(target: Any) -> bool:
    return getattr(torch, target.__name__, None) is target or (getattr(target, "__module__", None) or "").startswith(
        "torch."
    )


def changes_first_argument(node: fx.Node) -> bool:
    """Return whether what reads the first argument of `node` later sees a value changed by it."""
    if node.op == "call_method" and node.target in _CHANGES:
        return True
    return node.target in _ITEMS or returns_first_argument(node)


def hides_history(node: fx.Node) -> bool:
    """Return whether `node` gives the tensor that it is given, without its history."""
    if node.op == "call_method":
        return bool(node.target == "detach")
    return node.op == "call_function" and node.target is getattr and bool(node.args[1] == "data")


def is_same_tensor(node: fx.Node, other: fx.Node) -> bool:
    """Return whether `node` is `other` after a chain of changes in place."""
    while node is not other:
        if not returns_first_argument(node) or not isinstance(node.args[0], fx.Node):
            return False
        node = node.args[0]
    return True


def rename_after_changes(graph: fx.Graph, survey: Survey) -> None:
    """Let what runs after `y = relu_(x)` and reads x read y.

    Both are one tensor, so nothing changes when it runs; but then each node has one value, for whoever analyses.
    """
    latest: dict[fx.Node, fx.Node] = {}

    def resolve(node: fx.Node) -> fx.Node:
        while node in latest:
            node = latest[node]
        return node

    for node in graph.nodes:
        if latest and any(need in latest for need in node.all_input_nodes):
            node.args = fx.map_arg(node.args, resolve)
            node.kwargs = fx.map_arg(node.kwargs, resolve)
        changes = returns_first_argument(node) or survey.returns_first_argument(node)
        if changes and node.args and isinstance(node.args[0], fx.Node):
            latest[node.args[0]] = node


def drop_unused_questions(graph: fx.Graph) -> None:
    """Remove nodes that only served to ask: arithmetic on sizes and attributes that nothing reads."""
    for node in reversed(graph.nodes):
        if node.users:
            continue
        asks = node.op == "get_attr" or (node.op == "call_method" and node.target in _ASKING_METHODS)
        if asks or (node.op == "call_function" and node.target in _ASKING_FUNCTIONS):
            graph.erase_node(node)


def prefer_plain_operators(graph: fx.Graph, survey: Survey) -> None:
    """Write `x += y` as `x + y` where x is a fresh result that nothing else reads."""
    for node in graph.nodes:
        if node.op != "call_function" or node.target not in IN_PLACE:
            continue
        changed = node.args[0]
        if isinstance(changed, fx.Node) and len(changed.users) == 1 and _is_fresh(changed, survey):
            node.target = IN_PLACE[node.target]


def _is_fresh(node: fx.Node, survey: Survey) -> bool:
    """Return whether the result of `node` is surely no view of another tensor."""
    if node.op == "call_module":
        path = str(node.target)
        return path not in survey.opaque and any(True for _ in survey.modules[path].parameters())
    return node.op == "call_function" and node.target in _FRESH
