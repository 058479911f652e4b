"""Where in a model's code a node stands, for a graph that is traced anew: its own code knows no modules but layers."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

from torch import fx, nn

from campfire_fx.layers.dual import DualGraphModule

_STACK = "nn_module_stack"


def carry_stacks(root: nn.Module, graph: fx.Graph, train_graph: fx.Graph | None) -> None:
    """Give the nodes of a captured model's new graphs the notes that those of its present graphs have.

    The nodes are the same but for some that came or went, so their order says which is which.
    """
    if not isinstance(root, DualGraphModule):
        return
    _carry(root.graph, graph)
    if train_graph is not None:
        _carry(root.train_graph or root.graph, train_graph)


def _carry(before: fx.Graph, after: fx.Graph) -> None:
    old, new = list(before.nodes), list(after.nodes)
    matched = SequenceMatcher(None, [_called(node) for node in old], [_called(node) for node in new], autojunk=False)
    for first, second, size in matched.get_matching_blocks():
        for known, node in zip(old[first : first + size], new[second : second + size], strict=True):
            if known.meta.get(_STACK):
                node.meta[_STACK] = known.meta[_STACK]


def _called(node: fx.Node) -> tuple[str, Any]:
    return node.op, node.target
