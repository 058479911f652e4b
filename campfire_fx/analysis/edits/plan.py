"""Edits to a graph that are planned first and applied once the whole plan holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from campfire_fx.analysis.labelling import GraphRun
from campfire_fx.base.compat import TABLES, buffers_of, children_of, parameters_of


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """One change to a graph: what is done at a node, in words and as a function.

    The function is given the nodes replaced so far (old -> new) and adds its own.
    """

    run: GraphRun
    node: fx.Node
    action: str
    reason: str
    apply: Callable[[dict[fx.Node, fx.Node]], None]


def hold(root: fx.GraphModule, graph: fx.Graph, wanted: str, value: Tensor) -> fx.Node:
    """Register a tensor as a buffer under a free name and read it in the graph, at the insertion point."""
    name, number = wanted, 0
    while hasattr(root, name):
        number += 1
        name = f"{wanted}_{number}"
    device = next((p.device for p in root.parameters()), torch.device("cpu"))
    root.register_buffer(name, value.to(device))
    return graph.get_attr(name)


def put_holder(root: nn.Module, path: str) -> nn.Module:
    """Let a plain module hold what the module at a path holds, wherever that stands; it is called no more."""
    old, holder = root.get_submodule(path), nn.Module()
    holder.training = old.training
    for held in TABLES:
        getattr(holder, held).update(getattr(old, held))
    for module in list(root.modules()):
        for name, child in children_of(module).items():
            if child is old:
                children_of(module)[name] = holder
    return holder


def replace(node: fx.Node, new: fx.Node, replaced: dict[fx.Node, fx.Node]) -> None:
    """Let everything that read `node` read `new`, and erase `node`."""
    node.replace_all_uses_with(new)
    replaced[node] = new
    node.graph.erase_node(node)


def set_argument(node: fx.Node, position: int, name: str, value: Any) -> None:
    """Give a call another value for an argument, wherever it has it."""
    if position < len(node.args):
        node.args = (*node.args[:position], value, *node.args[position + 1 :])
    else:
        node.kwargs = {**node.kwargs, name: value}


def exchange(root: nn.Module, tensors: Mapping[int, Tensor]) -> None:
    """Put other tensors, by the ids of the old ones, into every module that holds these."""
    for module in root.modules():
        for held in (parameters_of(module), buffers_of(module)):
            for name, tensor in held.items():
                if tensor is not None and id(tensor) in tensors:
                    held[name] = tensors[id(tensor)]  # type: ignore[assignment]
