"""What a gate turns into once it is known which channels stay on its two sides."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from campfire_fx.analysis.compact import kept_line
from campfire_fx.analysis.edits.plan import Edit, hold, replace
from campfire_fx.analysis.labelling import GraphRun
from campfire_fx.analysis.liveness import Liveness
from campfire_fx.analysis.rules import Kind


def gate_edit(run: GraphRun, node: fx.Node, live: Liveness) -> Edit:
    """Return the edit that turns a gate into what its two sides have come to be."""
    adds = run.rule(node).kind is Kind.GATE_ADD
    arguments: Any = node.args
    *ends, dim = arguments
    sides = ends if adds else [*ends, node]
    wide, narrow = (kept_line(run.values[end].labels, live, dim) for end in sides)
    settle = _settle_add if adds else _settle_read

    def apply(replaced: dict[fx.Node, fx.Node]) -> None:
        with node.graph.inserting_before(node):
            new = settle(run, node, _Sides(wide, narrow, dim), live)
        replace(node, new, replaced)

    action = "index_add" if adds else "index_select"
    return Edit(run, node, action, "the branch uses fewer channels than its stream", apply)


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """Which channels stay in the stream and in the branch, as bool lines along `dim`."""

    wide: Tensor
    narrow: Tensor
    dim: int

    def index(self) -> Tensor:
        """Where the branch's channels lie in the stream, after the removal."""
        return (self.wide.cumsum(0) - 1)[self.wide & self.narrow]

    def written(self) -> Tensor:
        """Where the channels that the stream still has lie in the branch; others read the branch's further ones."""
        return (self.narrow.cumsum(0) - 1)[self.wide & self.narrow]


def _settle_read(run: GraphRun, node: fx.Node, sides: _Sides, _live: Liveness) -> fx.Node:
    stream: Any = node.args[0]
    if torch.equal(sides.wide, sides.narrow):
        return stream
    index = hold(run.module, node.graph, f"{node.name}_index", sides.index())
    return node.graph.call_function(torch.index_select, (stream, sides.dim, index))


def _settle_add(run: GraphRun, node: fx.Node, sides: _Sides, live: Liveness) -> fx.Node:
    stream, branch, _ = node.args
    if (sides.narrow & ~sides.wide).any():
        written = hold(run.module, node.graph, f"{node.name}_written", sides.written())
        branch = node.graph.call_function(torch.index_select, (branch, sides.dim, written))
    if not (sides.wide & ~sides.narrow).any():
        return node.graph.call_function(operator.add, (stream, branch))
    base = _shifted(run, node, sides, live)
    index = hold(run.module, node.graph, f"{node.name}_index", sides.index())
    return node.graph.call_function(torch.index_add, (base, sides.dim, index, branch))


def _shifted(run: GraphRun, node: fx.Node, sides: _Sides, live: Liveness) -> fx.Node:
    """Add the constants of the channels that the branch no longer writes to the stream."""
    stream: Any = node.args[0]
    gate = next(r for r in live.readers if r.mixer.virtual and r.mixer.calls[0].node is node)
    constant = gate.constant.flatten()
    gone = sides.wide & ~sides.narrow
    shift = torch.where(gone, constant, torch.zeros_like(constant))[sides.wide]
    if not shift.any():
        return stream
    shape = [1] * len(run.values[node].shape)
    shape[sides.dim] = -1
    dtype = next(run.module.parameters()).dtype  # bfloat16 where constants are kept in float32
    held = hold(run.module, node.graph, f"{node.name}_shift", shift.view(shape).to(dtype))
    return node.graph.call_function(operator.add, (stream, held))
