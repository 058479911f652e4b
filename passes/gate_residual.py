"""Let residual branches use fewer channels than their stream: gates at their ends, where that pays.

PruneTrain (arXiv 1901.09290) calls this channel gating: a branch gathers the channels it reads and scatters the
ones it writes. Gathering and scattering cost memory traffic, so a gate is put in only where the multiplications
saved are worth more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import fx

from campfire_fx.analysis.edits.plan import replace
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.labelling import GraphRun
from campfire_fx.analysis.labels import FIXED, Labelled
from campfire_fx.analysis.liveness import Liveness
from campfire_fx.analysis.reader import Reader
from campfire_fx.analysis.rules import Kind
from campfire_fx.analysis.rules.effects import writes
from campfire_fx.analysis.rules.gates import gate_add, gate_read
from campfire_fx.analysis.rules.kinds import ON_ONE
from campfire_fx.base.timing import MACS_PER_MOVE
from campfire_fx.layers.dual import graphs_of
from campfire_fx.passes.runner import Result, graph_pass, nothing_decided


@graph_pass(requires=(nothing_decided,))
def gate_residual(facts: Facts) -> Result:
    """Insert gates at the ends of residual branches where they pay."""
    live = facts.live
    by_node = {(c.graph, c.node): r for r in live.readers for c in r.mixer.calls if not r.mixer.virtual}
    changed = False
    for run, values in zip(facts.labelling.runs, facts.constants.values, strict=True):
        if len(graphs_of(run.module)) > 1:
            continue  # the others would need the same gates
        gated: dict[fx.Node, fx.Node] = {}
        for node, reader in [(n, by_node.get((run.number, n))) for n in list(run.graph.nodes)]:
            if reader is not None:
                changed |= _gate_reader(run, node, reader, live, gated)
            elif _is_sum(run, node):
                gate = _gate_sum(run, node, values, by_node, live)
                if gate is not None:
                    replace(node, gate, gated)
                    changed = True
    return Result(changed)


def _is_sum(run: GraphRun, node: fx.Node) -> bool:
    plain = node.op == "call_function" and len(node.args) == 2 and not node.kwargs
    return plain and run.rule(node).kind is Kind.ADD


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
    if writes(node) and len(operands[0].users) > 1:
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
        if not calls or run.rule(node).kind not in ON_ONE:
            return
        node = node.all_input_nodes[0]
