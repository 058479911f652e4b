"""Fuse epilogues: the sum and the activation behind a layer become part of its call, y = activation(layer(x) + r).

What a layer has just written is in the cache; each operation behind it that runs by itself reads and writes it again.
Kernels that write the sum and the activation at once save these passes over memory. The numbers stay the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import fx, nn

from campfire_fx.analysis.edits.convolutions import first_input
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.graph_run import GraphRun
from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.rules import Kind
from campfire_fx.analysis.rules.effects import writes_in_place, written
from campfire_fx.analysis.rules.layers import ACTIVATIONS
from campfire_fx.base.compat import children_of
from campfire_fx.layers.fused import FusedLayer
from campfire_fx.passes.runner import Result, graph_pass, nothing_decided


@dataclass(frozen=True, slots=True, eq=False)
class _Epilogue:
    """A layer's call and what follows it: the sum with `residual`, if any, and the activation, if any."""

    layer: fx.Node
    followers: tuple[fx.Node, ...]
    residual: fx.Node | None
    activation: str


@graph_pass(requires=(nothing_decided,))
def fuse_epilogues(facts: Facts) -> Result:
    """Fuse in all graphs; what was done: the paths of the layers.

    Only where nothing else reads what the layer gives, and the model calls the layer once.
    """
    captured, done = facts.captured, list[str]()
    if captured.untraced or not captured.whole:
        return Result(changed=False)  # code outside of the graphs may call the layers
    runs = facts.labelling.runs
    calls = Counter(id(run.submodule(node)) for run in runs for node in run.graph.find_nodes(op="call_module"))
    for run in runs:
        fused: dict[fx.Node, fx.Node] = {}
        for epilogue in list(_epilogues(run, calls)):
            fused[epilogue.followers[-1]] = _fuse(run.module, epilogue, fused)
            done.append(str(epilogue.layer.target))
    return Result(bool(done), tuple(done))


def _epilogues(run: GraphRun, calls: Counter[int]) -> Iterator[_Epilogue]:
    places = {node: place for place, node in enumerate(run.graph.nodes)}
    unsure = [place for node, place in places.items() if _may_write(run, node)]
    taken: set[fx.Node] = set()
    for node in reversed(places):  # of two layers that are added, the later one takes the sum
        if node.op != "call_module" or run.rule(node).kind is not Kind.MIX or calls[id(run.submodule(node))] > 1:
            continue
        found = _behind(run, node)
        if not found.followers or taken & set(found.followers):
            continue
        between = range(places[node] + 1, places[found.followers[-1]])
        own = {places[follower] for follower in found.followers}
        if not any(place in between and place not in own for place in unsure):
            taken |= set(found.followers)
            yield found


def _behind(run: GraphRun, layer: fx.Node) -> _Epilogue:
    """Follow what a layer gives through a sum and an activation, as long as nobody else reads it."""
    last, followers, residual = layer, list[fx.Node](), None
    sum_of = _reader(last)
    if sum_of is not None and run.rule(sum_of).kind is Kind.ADD:
        residual = _added(run, sum_of, last)
        if residual is not None:
            followers.append(last := sum_of)
    activation = _reader(last)
    name = "" if activation is None else ACTIVATIONS.get(run.target(activation), "")
    if activation is not None and name and not _may_write(run, activation, but=last):
        followers.append(activation)
    else:
        name = ""
    return _Epilogue(layer, tuple(followers), residual, name)


def _reader(node: fx.Node) -> fx.Node | None:
    """Return the one operation that reads a node; None where there are several, or it is the output."""
    reader = next(iter(node.users)) if len(node.users) == 1 else None
    return None if reader is None or reader.op == "output" else reader


def _added(run: GraphRun, node: fx.Node, layer: fx.Node) -> fx.Node | None:
    """Return what a sum adds to what a layer gives: another tensor of the same shape."""
    operands = [one for one in node.args if one is not layer]
    values = [run.values.get(one) for one in node.args if isinstance(one, fx.Node)]
    shapes = [value.shape for value in values if isinstance(value, Labelled)]
    if node.kwargs or len(node.args) != 2 or len(operands) != 1 or len(shapes) != 2 or shapes[0] != shapes[1]:
        return None
    (residual,) = operands
    assert isinstance(residual, fx.Node)
    return None if _may_write(run, node, but=layer) else residual


def _may_write(run: GraphRun, node: fx.Node, but: fx.Node | None = None) -> bool:
    """Return whether a call may change a tensor that it has not made; `but`: it may change this one."""
    if node.op not in ("call_module", "call_function", "call_method"):
        return False
    if run.rule(node).kind is Kind.BARRIER:
        return True
    return writes_in_place(node, run.submodule(node)) and written(node) != [but]


def _fuse(root: nn.Module, found: _Epilogue, known: Mapping[fx.Node, fx.Node]) -> fx.Node:
    """Put a fused layer under the layer's path, and call it where the last of its followers was.

    `known`: the last follower of each epilogue that was fused before -> the call in its place.
    """
    path, last = str(found.layer.target), found.followers[-1]
    layer = root.get_submodule(path)
    fused = FusedLayer(layer, found.activation)
    fused.training = layer.training
    for module in list(root.modules()):
        for name, child in children_of(module).items():
            if child is layer and module is not fused:
                children_of(module)[name] = fused
    operands = [first_input(found.layer)]
    if found.residual is not None:
        operands.append(known.get(found.residual, found.residual))
    with last.graph.inserting_before(last):
        new = last.graph.call_module(path, tuple(operands))
    new.meta = dict(last.meta)
    last.replace_all_uses_with(new)
    for node in reversed((found.layer, *found.followers)):
        node.graph.erase_node(node)
    return new
