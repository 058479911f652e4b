"""Let residual branches use fewer channels than their stream: gates at their ends, where that pays.

PruneTrain (arXiv 1901.09290) calls this channel gating: a branch gathers the channels it reads and scatters the
ones it writes. Gathering and scattering cost memory traffic, so a gate is put in only where the multiplications
saved are worth more.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from campfire_fx.analysis.compact import kept_line
from campfire_fx.analysis.edits.plan import Edit, hold, replace
from campfire_fx.analysis.facts import Analysis
from campfire_fx.analysis.labelling import GraphRun
from campfire_fx.analysis.labels import FIXED, Labelled
from campfire_fx.analysis.liveness import Liveness, Reader
from campfire_fx.analysis.rules.gates import gate_add, gate_read

# Multiply-adds that take as long as moving one float through memory; about 20 to 60 on CPUs and GPUs of today.
MACS_PER_MOVE = 32

_SUMS = (operator.add, operator.iadd, torch.add)


def gate_residuals(facts: Analysis) -> bool:
    """Insert gates at the ends of residual branches where they pay; returns whether any was inserted."""
    live = facts.live()
    by_node = {(c.graph, c.node): r for r in live.readers for c in r.mixer.calls if not r.mixer.virtual}
    changed = False
    for run, values in zip(facts.labelling.runs, facts.constants.values, strict=True):
        if run.module.train_graph is not None:
            continue  # the training graph would need the same gates
        gated: dict[fx.Node, fx.Node] = {}
        for node, reader in [(n, by_node.get((run.number, n))) for n in list(run.graph.nodes)]:
            if reader is not None:
                changed |= _gate_reader(run, node, reader, live, gated)
            elif node.target in _SUMS and len(node.args) == 2 and not node.kwargs:
                gate = _gate_sum(run, node, values, by_node, live)
                if gate is not None:
                    replace(node, gate, gated)
                    changed = True
    return changed


def _gate_reader(run: GraphRun, node: fx.Node, reader: Reader, live: Liveness, gated: dict[fx.Node, fx.Node]) -> bool:
    """Gate the input of a layer that reads few of the channels its stream must carry; `gated`: sums replaced so far."""
    call = next(c for c in reader.mixer.calls if c.node is node)
    source = run.values[call.source]
    if len(reader.mixer.calls) > 1 or reader.reads.shape[0] > 1 or not isinstance(source, Labelled):
        return False
    present = int(live.alive[reader.inputs].sum())
    merged = reader.merged(live.alive)
    needed = int(reader.needed(live.alive).sum()) + int(merged is not None and merged.any())
    saved = (present - needed) * _cost_per_channel(run, node, reader, live)
    moved = 2 * needed * _positions(source, call.channel_dim)
    if needed == 0 or saved <= MACS_PER_MOVE * moved or not _is_shared(reader, live):
        return False
    stream = gated.get(call.source, call.source)
    with run.graph.inserting_before(node):
        gate = run.graph.call_function(gate_read, (stream, call.channel_dim))
    run.values[gate] = source
    node.replace_input_with(stream, gate)
    return True


def _is_shared(reader: Reader, live: Liveness) -> bool:
    """Whether other layers keep channels alive that this one does not need; pinned streams are left alone."""
    return bool((live.alive[reader.inputs] & (reader.inputs != FIXED)).any())


def _cost_per_channel(run: GraphRun, node: fx.Node, reader: Reader, live: Liveness) -> int:
    """Multiply-adds that one input channel costs a layer."""
    output = run.values[node]
    dim = next(c.channel_dim for c in reader.mixer.calls if c.node is node)
    taps = reader.mixer.weight.numel() // (reader.inputs.numel() * reader.outputs.numel())
    return int(live.alive[reader.outputs].sum()) * taps * _positions(output, dim)


def _positions(value: Labelled, dim: int) -> int:
    return value.shape.numel() // value.shape[dim]


def _gate_sum(
    run: GraphRun, node: fx.Node, values: dict[fx.Node, Any], by_node: dict[Any, Reader], live: Liveness
) -> fx.Node | None:
    """Make the gate of a sum of which one operand has constant channels where the stream must carry others."""
    operands = [a for a in node.args if isinstance(a, fx.Node) and isinstance(run.values[a], Labelled)]
    if len(operands) != 2 or run.values[operands[0]].shape != run.values[operands[1]].shape:
        return None
    if node.target is operator.iadd and len(operands[0].users) > 1:
        return None  # what is written in place is read again elsewhere
    best = max(((_gain(run, branch, values, by_node, live), branch) for branch in operands), key=lambda pair: pair[0])
    if best[0] <= 0:
        return None
    branch = best[1]
    stream = operands[1 - operands.index(branch)]
    with run.graph.inserting_before(node):
        gate = run.graph.call_function(gate_add, (stream, branch, _branch_reader(run, branch, by_node)[1]))
    run.values[gate], values[gate] = run.values[node], values[node]
    return gate


def _gain(
    run: GraphRun, branch: fx.Node, values: dict[fx.Node, Any], by_node: dict[Any, Reader], live: Liveness
) -> float:
    """Multiply-adds saved by cutting the constant channels out of a branch, less the price of the gate."""
    reader, dim, maker = _branch_reader(run, branch, by_node)
    if reader is None or reader.reads.shape[0] > 1 or len(reader.mixer.calls) > 1:
        return 0.0
    value = run.values[branch]
    kept = live.alive[reader.outputs[0]]
    first = values[branch].movedim(dim, 0).flatten(1)[:, 0]
    idle = kept & ~first.isnan()
    taps = reader.mixer.weight.numel() // (reader.inputs.numel() * reader.outputs.numel())
    saved = int(idle.sum()) * int(live.alive[reader.inputs].sum()) * taps * _positions(run.values[maker], dim)
    width = int(kept.sum())
    shifted = width if bool((first[idle] != 0).any()) else 0
    moved = (2 * width + int((kept & ~idle).sum()) + 2 * shifted) * _positions(value, dim)
    return saved - MACS_PER_MOVE * moved


def _branch_reader(run: GraphRun, branch: fx.Node, by_node: dict[Any, Reader]) -> tuple[Reader | None, int, fx.Node]:
    """Return the layer at the end of a branch, through what only passes its channels on, and its channel dimension."""
    node = branch
    for node in _backwards(run, branch):
        reader = by_node.get((run.number, node))
        if reader is not None:
            return reader, next(c.channel_dim for c in reader.mixer.calls if c.node is node), node
    return None, 1, node


def _backwards(run: GraphRun, node: fx.Node) -> Iterator[fx.Node]:
    """Yield a node and what it passes on, while nothing else reads it."""
    while len(node.users) == 1:
        yield node
        calls = node.op in ("call_module", "call_function", "call_method")
        if not calls or run.rule(node).name not in ("per channel", "pass"):
            return
        node = node.all_input_nodes[0]


def gate_edit(run: GraphRun, node: fx.Node, live: Liveness) -> Edit:
    """Return the edit that turns a gate into what its two sides have come to be."""
    adds = node.target is gate_add
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
