"""Graphs as values: compare them, and bring them to a form that files can hold."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from torch import fx


class _Reference:
    """A node of the same graph, by its place, in a frozen graph."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reference) and other.index == self.index

    def __hash__(self) -> int:
        return hash(self.index)


class _Named:
    """A function that pickle does not find, since its `__qualname__` is not where it lies: F.max_pool2d, for one."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> Any:
        """Return the function."""
        return getattr(importlib.import_module(self.module), self.name)


Frozen = list[tuple[Any, ...]]
_STACK = "nn_module_stack"


def freeze(graph: fx.Graph) -> Frozen:
    """Return the nodes of `graph` as (op, target, args, kwargs, name, stack), with references in place of nodes.

    The stack is what is noted of the modules in whose code the node stands, each with the name of its class.
    """
    order: dict[fx.Node, Any] = {node: _Reference(index) for index, node in enumerate(graph.nodes)}
    return [
        (
            node.op,
            _named(node.target),
            *fx.map_arg((node.args, node.kwargs), order.__getitem__),
            node.name,
            tuple([(path, getattr(kind, "__name__", kind)) for path, kind in node.meta.get(_STACK, {}).values()]),
        )
        for node in graph.nodes
    ]


def thaw(frozen: Frozen) -> fx.Graph:
    """Return the graph that `freeze` was given; of `meta` it has the modules that nodes stand in."""
    graph = fx.Graph()
    nodes: list[fx.Node] = []

    def resolve(value: Any) -> Any:
        return nodes[value.index] if isinstance(value, _Reference) else value

    for op, target, args, kwargs, name, *stack in frozen:  # files from before have no stack
        args, kwargs = fx.node.map_aggregate((args, kwargs), resolve)
        target = target() if isinstance(target, _Named) else target
        nodes.append(graph.create_node(op, target, args, dict(kwargs), name))
        if stack:
            nodes[-1].meta[_STACK] = {path: (path, kind) for path, kind in stack[0]}
    return graph


def _named(target: Any) -> Any:
    """Return a function by the module and name that it lies under, where its qualified name is another."""
    module, name = getattr(target, "__module__", None), getattr(target, "__name__", None)
    if not isinstance(module, str) or not isinstance(name, str) or getattr(target, "__qualname__", name) == name:
        return target
    return _Named(module, name) if getattr(sys.modules.get(module), name, None) is target else target


def same(graph: fx.Graph, other: fx.Graph) -> bool:
    """Return whether two graphs do the same, node by node; names do not count."""
    if len(graph.nodes) != len(other.nodes):
        return False
    twin: dict[fx.Node, fx.Node] = {}
    for node, match in zip(graph.nodes, other.nodes, strict=True):
        if node.op != match.op or node.target != match.target:
            return False
        args, kwargs = fx.map_arg((node.args, node.kwargs), twin.__getitem__)
        if not _equal(args, match.args) or not _equal(kwargs, match.kwargs):
            return False
        twin[node] = match
    return True


def _equal(value: Any, other: Any) -> bool:
    """Return whether arguments are equal; 1, 1.0 and True are three things."""
    if isinstance(value, (tuple, list)):
        same_kind = isinstance(other, (tuple, list)) and len(value) == len(other)
        return same_kind and all(_equal(a, b) for a, b in zip(value, other, strict=True))
    if isinstance(value, dict):
        same_keys = isinstance(other, dict) and list(value) == list(other)
        return same_keys and all(_equal(value[key], other[key]) for key in value)
    if isinstance(value, slice) and isinstance(other, slice):
        return _equal((value.start, value.stop, value.step), (other.start, other.stop, other.step))
    return value is other or (type(value) is type(other) and value == other)
