"""Put a fresh graph in order: value semantics for operations in place, and no leftovers of questions."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from torch import fx

from campfire_fx.analysis.rules import Aliases, Kind, lookup
from campfire_fx.analysis.rules.conventions import IN_PLACE
from campfire_fx.analysis.rules.effects import returns_written, written
from campfire_fx.analysis.rules.factories import PURE
from campfire_fx.analysis.rules.kinds import ARITHMETIC
from campfire_fx.capture.survey import Survey

_SUMS = (*ARITHMETIC, Kind.ELEMENT_WISE, Kind.CONCATENATE, Kind.MATMUL)


def tidy(graph: fx.Graph, survey: Survey, keep: Container[fx.Node] = ()) -> None:
    """Put `graph`, a trace of the model surveyed, in order. What it computes stays the same, to the bit."""
    rename_after_changes(graph, survey)
    drop_unused_questions(graph, keep)
    prefer_plain_operators(graph, survey)


def is_same_tensor(node: fx.Node, other: fx.Node) -> bool:
    """Return whether `node` is `other` after a chain of changes in place."""
    while node is not other:
        if not returns_written(node) or len(written(node)) != 1:
            return False
        (node,) = written(node)
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
        if returns_written(node) or survey.returns_first_argument(node):
            changed = written(node)
            if len(changed) == 1:
                latest[changed[0]] = node


def drop_unused_questions(graph: fx.Graph, keep: Container[fx.Node] = ()) -> None:
    """Remove nodes that only served to ask, but for those to keep: arithmetic on sizes and attributes nobody reads."""
    for node in reversed(graph.nodes):
        if node.users or node in keep:
            continue
        if node.op == "get_attr" or (node.op in ("call_function", "call_method") and _only_asks(node.target)):
            graph.erase_node(node)


def _only_asks(target: Any) -> bool:
    rule = lookup(target)
    return target in PURE or (rule is not None and rule.kind is Kind.ASK)


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
    rule = lookup(node.target) if node.op == "call_function" else None
    return rule is not None and rule.kind in _SUMS and rule.aliases is Aliases.OWN
