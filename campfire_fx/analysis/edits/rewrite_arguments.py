"""Rewrite the arguments of operations that name sizes, counts or places of channels, for the channels that stay.

Each case looks at one node whose arguments no longer hold, and returns what to call instead; whoever asks checks that
the result is the labels wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from campfire_fx.analysis.after_removal import AfterRemoval
from campfire_fx.analysis.compact import Vanished, kept_indices, kept_line
from campfire_fx.analysis.edits.plan import hold
from campfire_fx.analysis.labels import Labelled, varies
from campfire_fx.analysis.rules import Kind
from campfire_fx.analysis.rules.movement import read_padding

Arguments = tuple[Any, tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Selected:
    """Stands among arguments for a part of a tensor that depends on no input: what is kept along each dimension."""

    source: fx.Node
    keep: tuple[Tensor | None, ...]
    labels: Labelled

    def made(self, root: fx.GraphModule, reader: fx.Node) -> fx.Node:
        """Put the selection into the graph, before what reads it."""
        graph, part = reader.graph, self.source
        with graph.inserting_before(reader):
            for dim, index in enumerate(self.keep):
                if index is not None:
                    held = hold(root, graph, f"{self.source.name}_index", index)
                    part = graph.call_function(torch.index_select, (part, dim, held))
        return part


def rewritten(after: AfterRemoval, node: fx.Node, expected: Any) -> Iterator[Arguments]:
    """Yield the target and arguments of every call that may give what is expected in the place of a node's."""
    for case in (_concatenation, _split_sizes, _pad_amounts, _unflattened_sizes, _shape_arguments, _one_index):
        arguments = case(after, node, expected)
        if arguments is not None:
            yield arguments


def _given(node: fx.Node, position: int, name: str) -> Any:
    """Return an argument, given by position or by name, or None."""
    return node.args[position] if position < len(node.args) else node.kwargs.get(name)


def _concatenation(after: AfterRemoval, node: fx.Node, _expected: Any) -> Arguments | None:
    """Case 1: operands of a concatenation vanished; of those that depend on no input, some channels may have."""
    operands = _given(node, 0, "tensors")
    if after.run.rule(node).kind is not Kind.CONCATENATE or not isinstance(operands, (tuple, list)):
        return None
    joined = after.labelling.structure.joined.get(node, {})
    left: list[Any] = []
    for operand in operands:
        if operand in joined:
            keep = kept_indices(joined[operand].labels, after.live)
            small = after.compacted(joined[operand])
            if not isinstance(small, Vanished):
                left.append(operand if all(k is None for k in keep) else Selected(operand, keep, small))
        elif not isinstance(after.values[operand], Vanished):
            left.append(operand)
    return node.target, (left, *node.args[1:]), {k: v for k, v in node.kwargs.items() if k != "tensors"}


def _split_sizes(after: AfterRemoval, node: fx.Node, expected: Any) -> Arguments | None:
    """Case 2: pieces of a split; any split into consecutive pieces is a split with sizes."""
    original = after.run.values[node]
    source = node.args[0] if node.args else node.kwargs.get("tensor", node.kwargs.get("input"))
    dim = _given(node, 2, "dim") or 0
    if after.run.rule(node).kind is not Kind.SPLIT or not isinstance(original, (tuple, list)):
        return None
    if not isinstance(source, fx.Node) or not isinstance(dim, int):
        return None
    sizes = [0 if isinstance(piece, Vanished) else piece.shape[dim] for piece in expected]
    return torch.split, (source, sizes, dim), {}


def _pad_amounts(after: AfterRemoval, node: fx.Node, expected: Any) -> Arguments | None:
    """Case 3: zeros padded onto a channel axis; as many go as their channels go."""
    if after.run.rule(node).kind is not Kind.PAD or not isinstance(expected, Labelled):
        return None
    module = after.run.submodule(node)
    source, padding = _given(node, 0, "input"), read_padding(node, module)
    amounts = list(padding.amounts)
    incoming, original = after.run.values[source], after.run.values[node]
    for i in range(len(amounts) // 2):
        dim = original.labels.ndim - 1 - i
        if varies(incoming.labels, dim):
            line = after.live.keeps(original.labels).movedim(dim, 0).flatten(1).any(1)
            front, back = amounts[2 * i], amounts[2 * i + 1]
            if not isinstance(front, int) or not isinstance(back, int):
                return None  # the example's numbers, written out, would be right for its size alone
            amounts[2 * i] = int(line[:front].sum())
            amounts[2 * i + 1] = int(line[line.numel() - back :].sum())
    if module is not None:
        return F.pad, (source, amounts, "constant", padding.value), {}
    rest = node.args[2:]
    return node.target, (source, amounts, *rest), {k: v for k, v in node.kwargs.items() if k not in ("input", "pad")}


def _unflattened_sizes(after: AfterRemoval, node: fx.Node, expected: Any) -> Arguments | None:
    """Case 4: a dimension unflattened to sizes written out."""
    if after.run.rule(node).kind is not Kind.UNFLATTEN:
        return None
    original, module = after.run.values[node], after.run.submodule(node)
    if module is None:
        dim, given = _given(node, 1, "dim"), _given(node, 2, "sizes")
    else:
        dim, given = module.dim, module.unflattened_size
    if not isinstance(dim, int) or not isinstance(given, (tuple, list)) or not isinstance(expected, Labelled):
        return None
    first = dim % (original.labels.ndim - len(given) + 1)
    sizes = list(expected.shape[first : first + len(given)])
    return torch.unflatten, (_given(node, 0, "input"), dim, sizes), {}


def _shape_arguments(after: AfterRemoval, node: fx.Node, expected: Any) -> Arguments | None:
    """Case 5: a shape of numbers written out, or read off a tensor that lost other channels than this one."""
    original = after.run.values[node]
    if not isinstance(original, Labelled) or not isinstance(expected, Labelled) or node.op == "call_module":
        return None
    if after.run.rule(node).kind is Kind.INDEX:
        return None
    listed = len(node.args) == 2 and isinstance(node.args[1], (tuple, list))
    sizes = list(node.args[1]) if listed else list(node.args[1:])  # type: ignore[arg-type]
    if len(sizes) != len(original.shape):
        return None
    new = [
        _size_after(after, size, old, now) for size, old, now in zip(sizes, original.shape, expected.shape, strict=True)
    ]
    return node.target, (node.args[0], tuple(new)) if listed else (node.args[0], *new), dict(node.kwargs)


def _size_after(after: AfterRemoval, size: Any, old: int, now: int) -> Any:
    """Return one size of a shape: written out anew where it no longer holds, as it is (symbolic) where it does."""
    if isinstance(size, fx.Node):
        if isinstance(after.run.values[size], Tensor):
            return size
        return now if after.run.values[size] == old and after.values[size] != now else size
    return now if size == old else size


def _one_index(after: AfterRemoval, node: fx.Node, _expected: Any) -> Arguments | None:
    """Case 6: one channel chosen by its number; its number among those that stay is a smaller one."""
    source = _given(node, 0, "input")
    value = after.run.values.get(source) if isinstance(source, fx.Node) else None
    if not isinstance(value, Labelled):
        return None
    kind = after.run.rule(node).kind
    if kind is Kind.INDEX:
        given = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
        if not all(isinstance(i, int) or i == slice(None) for i in given):
            return None
        index = [_moved(after, value, dim, i) if isinstance(i, int) else i for dim, i in enumerate(given)]
        return node.target, (source, tuple(index)), {}
    dim, number = _given(node, 1, "dim"), _given(node, 2, "index")
    if kind is not Kind.SELECT or not (isinstance(dim, int) and isinstance(number, int)):
        return None
    return torch.select, (source, dim, _moved(after, value, dim, number)), {}


def _moved(after: AfterRemoval, value: Labelled, dim: int, index: int) -> int:
    """Return the place of an index among those along one dimension that stay."""
    return int(kept_line(value.labels, after.live, dim)[: index % value.shape[dim]].sum())
