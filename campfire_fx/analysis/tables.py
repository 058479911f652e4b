"""Tables of parameters of which the size of an input says how much is read: positions of tokens, biases of windows.

The example may read the first rows alone. Another input reads others, so all of them lose the same channels, and a
channel is constant where it is so in all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx

from campfire_fx.analysis.graph_run import GraphRun
from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.rules import Call, Kind, lookup
from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.record import parts


def join_rows(run: GraphRun, call: Call) -> bool:
    """Join what lies along dimensions from which an input's size picks; returns whether there are any."""
    source = call.operand(0, "input")
    value = call.args[0] if call.args else None
    if source is None or not isinstance(value, Labelled):
        return False
    dims = [dim for dim in _picked(call, len(value.shape)) if dim < len(value.shape)]
    if not dims or _reaches_input(source, lambda node: bool(parts(run.values[node], Labelled))):
        return False
    found = Found(call.structure)
    for dim in dims:
        found.forest.join(value.labels, value.labels.narrow(dim, 0, 1))
    found.enter()
    return True


def _picked(call: Call, rank: int) -> list[int]:
    """Return the dimensions from which a call takes what an input's size says."""
    rule = lookup(call.target)
    if rule is None or not rule.movement:
        return []
    if rule.kind is Kind.INDEX:
        return _indexed(call.node.args[1], rank)
    return (call.axes() or []) if any(map(_reads_input, call.node.all_input_nodes[1:])) else []


def _indexed(index: Any, rank: int) -> list[int]:
    entries = list(index) if isinstance(index, (tuple, list)) else [index]
    taken = sum(entry is not None and entry is not ... for entry in entries)
    found, dim = [], 0
    for entry in entries:
        if entry is ...:
            dim += rank - taken
        elif entry is not None:
            nodes: list[fx.Node] = []
            fx.map_arg(entry, nodes.append)
            if any(map(_reads_input, nodes)):
                found.append(dim)
            dim += 1
    return found


def _reads_input(node: fx.Node) -> bool:
    return _reaches_input(node, lambda _: True)


def _reaches_input(node: fx.Node, follows: Callable[[fx.Node], bool]) -> bool:
    """Return whether a node is made of an input, over nodes that are followed."""
    seen, waiting = {node}, [node]
    while waiting:
        current = waiting.pop()
        if current.op == "placeholder":
            return True
        fresh = {need for need in current.all_input_nodes if need not in seen and follows(need)}
        seen |= fresh
        waiting += fresh
    return False
