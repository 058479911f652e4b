"""Make ReLU modules: every call of a ReLU function becomes one of an nn.ReLU, whose backward pass can be exchanged."""

from __future__ import annotations

from torch import fx, nn

from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.rules.layers import RELU
from campfire_fx.layers.dual import DualGraphModule, graphs_of
from campfire_fx.passes.runner import Result, graph_pass, nothing_decided


@graph_pass(requires=(nothing_decided,))
def make_relus(facts: Facts) -> Result:
    """Put modules in place of ReLU functions, where the whole model is one graph; what was done: names of nodes.

    All calls share one module, or two: one of them works in place. They have no tensors, so no `state_dict` changes.
    """
    root = facts.captured.module
    if not isinstance(root, DualGraphModule) or [island.path for island in facts.captured.islands] != [""]:
        return Result(changed=False)
    made: dict[bool, str] = {}
    nodes = [node for graph in graphs_of(root) for node in graph.nodes]
    calls = [(node, inplace) for node in nodes if (inplace := _inplace(node)) is not None]
    for node, inplace in calls:
        if inplace not in made:
            made[inplace] = _add(root, inplace)
        _exchange(node, made[inplace])
    return Result(bool(calls), tuple(node.name for node, _ in calls))


def _inplace(node: fx.Node) -> bool | None:
    """Return whether a node is a ReLU that works in place; None: it is no call of a ReLU function."""
    if node.op not in ("call_function", "call_method") or node.target not in RELU:
        return None
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("inplace", RELU[node.target])
    return given if isinstance(given, bool) else None


def _add(root: nn.Module, inplace: bool) -> str:
    name = "relu_inplace" if inplace else "relu"
    while hasattr(root, name):
        name += "_"
    root.add_module(name, nn.ReLU(inplace))
    root.get_submodule(name).train(root.training)
    return name


def _exchange(node: fx.Node, path: str) -> None:
    source = node.args[0] if node.args else node.kwargs["input"]
    with node.graph.inserting_before(node):
        new = node.graph.call_module(path, (source,))
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)
