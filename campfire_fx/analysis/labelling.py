"""The label run: execute every graph of a captured model on channel labels.

One pass over the nodes finds the whole channel structure: which channels live or die together, which layers make
and read them, what cannot be removed and why. Graphs that share modules (the training and the inference graph,
islands with shared layers) are run over one label forest, so that their shared layers agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.graph_run import ExampleValues, GraphRun, attribute, placeholder_values, substitute
from campfire_fx.analysis.labels import Labelled, varies
from campfire_fx.analysis.rules import Call, Held, Kind, OpRule, Transfer, lookup
from campfire_fx.analysis.rules.barriers import BARRIER, fix_tensors
from campfire_fx.analysis.rules.effects import writes_in_place
from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.movement import asks_kind, asks_shape
from campfire_fx.analysis.rules.proof import PROVEN, is_candidate, is_pointwise
from campfire_fx.analysis.rules.record import invoke, map_nested, map_nodes, parts
from campfire_fx.analysis.rules.structure import Structure, fixed
from campfire_fx.analysis.tables import join_rows
from campfire_fx.base.draws import is_drawn_by_torch, undrawn
from campfire_fx.base.errors import ShrinkError


@dataclass(slots=True, eq=False)
class Labelling:
    """The channel structure of a whole captured model."""

    captured: Captured
    structure: Structure
    runs: list[GraphRun]


def label(captured: Captured, *, training: bool = True) -> Labelling:
    """Run every graph on labels.

    Args:
        captured: the traced model.
        training: also run training graphs where they differ from the inference graphs.
    """
    islands = frozenset(id(island.module) for island in captured.islands)
    structure = Structure(_names(captured.module), islands)
    runs: list[GraphRun] = []
    for island in captured.islands:
        for modes, variant in zip(island.module.graph_variants, island.variants, strict=True):
            twice = modes.train_graph is not None
            known: dict[Any, _CallResult] | None = {} if twice else None
            for graph in (modes.graph, modes.train_graph) if training else (modes.graph,):
                if graph is not None:
                    args = placeholder_values(graph, *variant.examples[0])
                    runs.append(
                        GraphRun(len(runs), island.module, graph, graph is not modes.graph, args, trains_apart=twice)
                    )
                    _run(runs[-1], structure, known)
    _pin_conflicts(structure)
    return Labelling(captured, structure, runs)


def _names(module: nn.Module) -> dict[int, str]:
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {id(tensor): name for name, tensor in reversed(tensors)}


@dataclass(frozen=True, slots=True, eq=False)
class _CallResult:
    """What a call gave in one graph: the same call of another graph, on the same labels, gives it again."""

    node: fx.Node
    value: Any


def _run(run: GraphRun, structure: Structure, known: dict[Any, _CallResult] | None) -> None:
    structure.graph = run.number
    given = iter(run.args)
    example = ExampleValues(run)
    writes = any(
        node.op in ("call_function", "call_method") and writes_in_place(node, None) for node in run.graph.nodes
    )
    with torch.no_grad():
        for node in run.graph.nodes:
            if node.op == "placeholder":
                value = fix_tensors(next(given))
                if known is not None:  # the inputs of both graphs
                    value = known.setdefault((id(run.module), node.target), _CallResult(node, value)).value
                run.values[node] = value
            elif node.op == "get_attr":
                value = attribute(run.module, str(node.target))
                run.values[node] = value.clone() if writes and isinstance(value, Tensor) else value
            elif node.op == "output":
                given = map_nodes(node.args, lambda n: run.values[n])
                found = Found(structure)
                found.pin("output", "the model's output", *parts(given, Labelled))
                found.enter()
            else:
                run.values[node] = _known_call(run, node, structure, example, known)
    run.settled.update((node, rule) for node, rule in structure.settled.items() if node.graph is run.graph)


def _known_call(
    run: GraphRun,
    node: fx.Node,
    structure: Structure,
    example: Callable[[fx.Node], Any],
    known: dict[Any, _CallResult] | None,
) -> Any:
    """Run a call, or take over what its twin in another graph gave; `known` is None where there is no other graph."""
    key = None if known is None else _signature(run, node)
    if known is None or key is None:
        return run_call(run, node, structure, example)
    if key not in known or run.rule(node).constant is Transfer.MIX:  # a weight notes every call
        result = _CallResult(node, run_call(run, node, structure, example))
        return known.setdefault(key, result).value
    twin = known[key].node
    tables: tuple[dict[fx.Node, Any], ...] = (structure.settled, structure.joined, structure.unstacked)
    for table in (*tables, structure.wholes):
        if twin in table:
            table[node] = table[twin]
    return known[key].value


def _signature(run: GraphRun, node: fx.Node) -> Any:
    """Return what a node calls and on what, comparable between the graphs of a model; None where it is not."""

    def frozen(value: Any) -> Any:
        if isinstance(value, fx.Node):
            value = run.values[value]
            if isinstance(value, Held):
                return Held, id(value.tensor)
            if isinstance(value, (Labelled, Tensor, tuple, list)):
                return Labelled, id(value)
        elif isinstance(value, (tuple, list)):
            return tuple([frozen(item) for item in value])
        elif isinstance(value, dict):
            return tuple([(key, frozen(item)) for key, item in value.items()])
        elif isinstance(value, slice):
            return slice, frozen(value.start), frozen(value.stop), frozen(value.step)
        return type(value), value  # 1, 1.0 and True are three things

    key = (id(run.module), node.op, node.target, frozen(node.args), frozen(node.kwargs))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def make_call(
    run: GraphRun, node: fx.Node, structure: Structure, example: Callable[[fx.Node], Any], rule: OpRule
) -> Call:
    """Return the call of a node on the labels found so far, with those of the parameters it reads."""
    args, kwargs = substitute(run.values, node)
    if rule.constant is not Transfer.MIX and rule is not BARRIER:
        args, kwargs = map_nested((args, kwargs), lambda v: _labelled(v, structure, rule))
    return Call(node, run.target(node), run.submodule(node), args, kwargs, structure, example)


def _labelled(value: Any, structure: Structure, rule: OpRule) -> Any:
    if not isinstance(value, Held) or _reads_values(rule):
        return value
    known = structure.tensors.get(id(value.tensor))
    return value if known is None else known[1]


def _reads_values(rule: OpRule) -> bool:
    """Whether a rule reads parameters themselves, and not their labels."""
    itself = rule.constant in (Transfer.MIX, Transfer.AFFINE) or rule.kind is Kind.PER_CHANNEL
    return itself or rule is BARRIER


def _parameters(run: GraphRun, node: fx.Node) -> list[Held]:
    values = [run.values[source] for source in node.all_input_nodes]
    return [held for value in values if type(value) is not Labelled for held in parts(value, Held)]


def _label_parameters(structure: Structure, parameters: list[Held]) -> None:
    """Give parameters labels, if they have none."""
    found = Found(structure)
    for held in parameters:
        if held.tensor.numel() == 1:
            found.pin_tensor(held.tensor)  # a single number, which every channel reads
        found.tensor(held.tensor)
    found.enter()


def run_call(run: GraphRun, node: fx.Node, structure: Structure, example: Callable[[fx.Node], Any]) -> Any:
    """Run the rule of one call on the labels found so far, enter what it finds, and return the labels of its result."""
    rule = run.rule(node)
    asked = _held(run, node) if rule.kind is Kind.ASK else []
    if asked:
        return _ask_parameter(run, node, structure, asked)
    if not _reads_values(rule) and (parameters := _parameters(run, node)):
        _label_parameters(structure, parameters)
    call = make_call(run, node, structure, example, rule)
    if call.module is None and not call.labelled() and not call.held():
        return None if rule.kind is Kind.GUARD else _plain(node, call)
    if rule is BARRIER and is_candidate(node) and is_pointwise(call):
        rule = structure.settled[node] = PROVEN
    if rule.kind is Kind.REDUCE and isinstance(call.get(1, "other"), (Tensor, Labelled, Held)):
        rule = structure.settled[node] = lookup(torch.maximum) or rule  # max and min of two tensors
    if rule.movement and join_rows(run, call):
        rule = structure.settled[node] = replace(rule, constant=Transfer.KEEP)
    try:
        found = rule.flow(call)
        if _is_emptied([*call.labelled(), *parts(found.labels, Labelled)]):
            found.pin(call.where(), "a part of it is empty in the example", *call.labelled())
        found.enter()
        return found.labels
    except ShrinkError:
        raise
    except Exception as error:
        raise ShrinkError(
            f"The label run failed at {call.where()} ({rule.kind.value}): {error} "
            "Please report this; as a workaround wrap the operation in a module that torch.fx keeps as a leaf."
        ) from error


def _is_emptied(pieces: list[Labelled]) -> bool:
    """Whether a tensor of a call is empty, and not for want of channels."""
    return any(
        not any(varies(other.labels, empty.index(0)) for other in pieces if other.labels.ndim == len(empty))
        for empty in (piece.shape for piece in pieces if 0 in piece.shape)
    )


def _held(run: GraphRun, node: fx.Node) -> list[Held]:
    values = [run.values[source] for source in node.all_input_nodes]
    return [value for value in values if isinstance(value, Held)]


def _ask_parameter(run: GraphRun, node: fx.Node, structure: Structure, asked: list[Held]) -> Any:
    """Answer a question about a parameter itself; what is asked of neither shape nor kind keeps it as it is."""
    if not (asks_kind(node) or asks_shape(node)):
        found = Found(structure)
        for held in asked:
            found.pin_tensor(held.tensor)
        found.enter()
    args, kwargs = substitute(run.values, node)
    args, kwargs = map_nested((args, kwargs), _bare)
    return invoke(node, None, args, kwargs)


def _bare(value: Any) -> Any:
    """Return the tensor of a parameter, and the labels in place of an activation: its shape is what is asked for."""
    return value.tensor if isinstance(value, Held) else value.labels if isinstance(value, Labelled) else value


def _plain(node: fx.Node, call: Call) -> Any:
    """Execute what depends on no activation: sizes, numbers, tensors made from them."""
    if is_drawn_by_torch(node.target):
        return undrawn(lambda: invoke(node, None, call.args, call.kwargs))[0]
    return invoke(node, None, call.args, call.kwargs)


def _pin_conflicts(structure: Structure) -> None:
    """Pin a weight that is both mixed with and used in some other way."""
    found = Found(structure)
    for key in structure.mixers.keys() & structure.tensors.keys():
        mixer = structure.mixers[key]
        found.pin(mixer.name, "its weight is also used directly", mixer.inputs, mixer.outputs)
        found.pin(mixer.name, "its weight is also used directly", structure.tensors[key][1])
    found.enter()


__all__ = ["GraphRun", "Labelling", "fixed", "label", "make_call", "placeholder_values", "run_call", "substitute"]
