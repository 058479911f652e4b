"""Replace what is wholly constant by its value: a dead branch goes, its constant stays."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from campfire_fx.analysis.draws import draws
from campfire_fx.analysis.edits.plan import hold
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.labelling import GraphRun
from campfire_fx.analysis.labels import Labelled, collapse
from campfire_fx.analysis.rules import Kind
from campfire_fx.analysis.rules.conventions import IN_PLACE
from campfire_fx.analysis.rules.record import parts
from campfire_fx.analysis.rules.structure import Structure
from campfire_fx.passes.runner import Result, graph_pass, nothing_decided

_BROADCASTING = (Kind.ADD, Kind.SUBTRACT, Kind.MULTIPLY)


@graph_pass(requires=(nothing_decided,))
def fold_constants(facts: Facts) -> Result:
    """Replace wholly constant operands of sums and products by small tensors.

    Only where the other operand has the full shape, so that broadcasting gives the same result at any image size.
    """
    changed = False
    for run, values in zip(facts.labelling.runs, facts.constants.values, strict=True):
        if run.trains_apart:
            continue  # in training a dead branch still gives its normalisation's shift
        fed = _fed(run)
        for node in list(run.graph.nodes):
            plain = node.op == "call_function" and len(node.args) == 2 and not node.kwargs
            if plain and run.rule(node).kind in _BROADCASTING and all(_in(fed, operand) for operand in node.args):
                changed |= _fold_operand(run, node, values, facts)
    return Result(changed)


def _in(nodes: set[Any], operand: Any) -> bool:
    return isinstance(operand, fx.Node) and operand in nodes  # a list of slices, say, has no hash


def _fed(run: GraphRun) -> set[Any]:
    """Return the nodes that data of an input reaches.

    What is made of parameters is left to their owner, also where sizes say how much of them: a row for each token.
    """
    fed: set[Any] = set()
    for node in run.graph.nodes:
        reached = node.op == "placeholder" or not fed.isdisjoint(node.all_input_nodes)
        if reached and parts(run.values.get(node), Labelled):
            fed.add(node)
    return fed


def _fold_operand(run: GraphRun, node: fx.Node, values: dict[fx.Node, Any], facts: Facts) -> bool:
    if not all(_is_activation(run, argument) for argument in node.args):
        return False
    for position, operand in enumerate(node.args):
        other = node.args[1 - position]
        assert isinstance(operand, fx.Node) and isinstance(other, fx.Node)
        if run.values[other].shape != run.values[node].shape:
            continue
        if operand.op in ("placeholder", "get_attr") or len(operand.users) > 1:
            continue
        if position == 0 and node.target in IN_PLACE:
            continue  # it is written to
        value = _constant(run, operand, collapse(values[operand]), facts)
        if value is None:
            continue
        _replace(run, node, position, value, facts)
        return True
    return False


def _constant(run: GraphRun, operand: fx.Node, value: Tensor, facts: Facts) -> Tensor | None:
    """Return the value of an operand that is constant in every channel that lives, or None; the others count as 0."""
    strides = run.values[operand].labels.stride()
    if any(size > 1 and step == 0 for size, step in zip(value.shape, strides, strict=True)):
        return None  # it may be space along which it differs
    unknown = value.isnan()
    if not unknown.any():
        return value
    if unknown.all() or (unknown & facts.live.keeps(run.values[operand].labels)).any():
        return None
    return value.nan_to_num(nan=0.0)


def _is_activation(run: GraphRun, argument: Any) -> bool:
    return isinstance(argument, fx.Node) and isinstance(run.values[argument], Labelled)


def _replace(run: GraphRun, node: fx.Node, position: int, value: Tensor, facts: Facts) -> None:
    other, operand = node.args[1 - position], node.args[position]
    graph = node.graph
    assert isinstance(operand, fx.Node) and isinstance(other, fx.Node)
    if not value.any() and run.rule(node).kind is Kind.ADD:
        node.replace_all_uses_with(other)
        graph.erase_node(node)
    else:
        with graph.inserting_before(node):
            node.update_arg(position, hold(run.module, graph, f"{operand.name}_constant", value.clone()))
    _erase_unused(run, operand, facts.labelling.structure)


def _erase_unused(run: GraphRun, node: fx.Node, structure: Structure) -> None:
    """Erase a node and what only it used, but for what draws random numbers."""
    waiting, erased = [node], set[fx.Node]()
    while waiting:
        last = waiting.pop()
        if last in erased or last.users or last.op in ("placeholder", "output") or draws(run, last, structure):
            continue
        waiting += last.all_input_nodes
        run.graph.erase_node(last)
        erased.add(last)
