"""Fold norms: a BatchNorm in evaluation scales and shifts channels by fixed numbers, and so can the layer before it.

y = s (W x + b - mean) + beta, s = gamma / sqrt(var + eps), is a layer with weight s W and bias s (b - mean) + beta.
Exact to rounding. In training a norm would use the statistics of the batch; what is folded no longer does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from campfire_fx.analysis.edits.cuts import like
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.graph_run import GraphRun, attribute
from campfire_fx.analysis.plan import NormChange
from campfire_fx.analysis.rules import Held, Kind
from campfire_fx.analysis.rules.channelwise import BATCH_NORMS
from campfire_fx.base.compat import CONVOLUTION, enter_autocast
from campfire_fx.layers.layout import layout_of
from campfire_fx.passes.runner import Result, graph_pass, removal_decided

_TENSORS = ("running_mean", "running_var", "weight", "bias")
_NO_STATISTICS = "it has no running statistics"

Readers = dict[int, set[fx.Node]]
"""The nodes of all graphs that read a parameter or buffer, by its id."""


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """One call of a norm: where, by which name, on which numbers; `unknown` says why these are not fixed, or ""."""

    run: GraphRun
    node: fx.Node
    name: str
    tensors: tuple[Tensor | None, ...]
    eps: float
    unknown: str = ""

    @property
    def source(self) -> fx.Node:
        """The node that the norm reads."""
        source = self.node.args[0] if self.node.args else self.node.kwargs["input"]
        assert isinstance(source, fx.Node)
        return source


@graph_pass(requires=(removal_decided,))
def fold_norms(facts: Facts) -> Result:
    """Fold each BatchNorm into the layer whose outputs it alone reads; a `NormChange` for each, folded or left alone.

    Only where every call of the layer is followed by this very norm, in all graphs, so that both can go together.
    """
    runs, outside = facts.labelling.runs, bool(facts.captured.untraced) or not facts.captured.whole
    readers, changes = _readers(runs), list[NormChange]()
    for calls in _norms(runs):
        layer = "code outside of the graphs may call it" if outside else _layer_before(calls, readers)
        if isinstance(layer, str):
            changes.append(NormChange(calls[0].name, reason=layer))
            continue
        changes.append(NormChange(calls[0].name, str(calls[0].source.target)))
        nodes = readers[id(layer.weight)]
        with torch.no_grad():
            _fold(layer, calls[0])
        readers.update((id(tensor), nodes) for tensor in (layer.weight, layer.bias))
        for call in calls:
            _take_out(call)
    return Result(any(change.layer for change in changes), tuple(changes))


def _readers(runs: Sequence[GraphRun]) -> Readers:
    readers: Readers = defaultdict(set)
    for run in runs:
        for node in run.graph.nodes:
            module = run.submodule(node)
            for tensor in () if module is None else module.parameters():
                readers[id(tensor)].add(node)
            if node.op == "get_attr":
                readers[id(_tensor(run, node))].update(node.users)
    return readers


def _tensor(run: GraphRun, node: Any) -> Any:
    """Return what a node reads by name, or None."""
    held = attribute(run.module, str(node.target)) if isinstance(node, fx.Node) and node.op == "get_attr" else None
    return held.tensor if isinstance(held, Held) else held


def _norms(runs: Sequence[GraphRun]) -> Iterator[list[_Call]]:
    """Yield the calls of each BatchNorm, in the order of the graphs; the same numbers are the same norm."""
    found: dict[tuple[Any, ...], list[_Call]] = {}
    for run in runs:
        for node in run.graph.nodes:
            if (call := _read(run, node)) is not None:
                fixed = call.tensors and call.tensors[0] is not None
                numbers = (*map(id, call.tensors), call.eps) if fixed else (call.name,)
                found.setdefault(numbers, []).append(call)
    yield from found.values()


def _read(run: GraphRun, node: fx.Node) -> _Call | None:
    """Return a call of a BatchNorm, by its module or as a function; None: it is something else."""
    module: Any = run.submodule(node)
    names = BATCH_NORMS.get(run.target(node))
    if names is None:
        return None
    if module is not None:
        tensors = tuple(getattr(module, name) for name in _TENSORS)
        unknown = _NO_STATISTICS if module.running_mean is None else ""
        return _Call(run, node, str(node.target), tensors, module.eps, unknown)
    given: dict[str, Any] = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    sources, eps = [given.get(name) for name in _TENSORS], given.get("eps", 1e-5)
    if sources[0] is None:
        return _Call(run, node, node.name, (), 0.0, _NO_STATISTICS)
    if isinstance(eps, fx.Node) or any(isinstance(one, fx.Node) and one.op != "get_attr" for one in sources):
        return _Call(run, node, node.name, (), 0.0, "its numbers are computed")
    name = str(sources[0].target).rpartition(".")[0] or node.name
    unknown = "" if given.get("training", False) is False or run.training else "it measures the batch"
    return _Call(run, node, name, tuple(_tensor(run, source) for source in sources), eps, unknown)


def _layer_before(calls: Sequence[_Call], readers: Readers) -> Any:
    """Return the layer that a norm can be folded into, or in words why there is none."""
    unknown = next((call.unknown for call in calls if call.unknown), "")
    if unknown:
        return unknown
    if all(call.run.training for call in calls):
        return "only training uses it"
    sources = {call.source for call in calls}
    layers = {call.run.submodule(call.source) for call in calls}
    layer: Any = next(iter(layers))
    if any(call.source.op != "call_module" or call.run.rule(call.source).kind is not Kind.MIX for call in calls):
        return "no convolution or linear layer lies directly before it"
    if len(layers) > 1:
        return "it follows several layers"
    if any(len(source.users) > 1 for source in sources):
        return "its input is also read elsewhere"
    tensors = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    if any(not isinstance(tensor, nn.Parameter) or readers[id(tensor)] != sources for tensor in tensors):
        return "the weight of the layer before it is also used elsewhere"
    if any(call.run.graph.find_nodes(op="call_function", target=enter_autocast) for call in calls):
        return "it runs under autocast"
    if any(not readers[id(tensor)] <= {call.node for call in calls} for tensor in calls[0].tensors[:2]):
        return "its statistics are also used elsewhere"
    dims = layer.weight.ndim if isinstance(layer, CONVOLUTION) else 2
    if any(len(call.run.values[call.source].shape) != dims for call in calls):
        return "its channels are not those of the layer before it"
    if any(tensor is not None and tensor.dtype != layer.weight.dtype for tensor in calls[0].tensors):
        return "its numbers are of another type than those of the layer before it"
    return layer


def _fold(layer: Any, norm: _Call) -> None:
    """Give a layer the weight and bias that have the norm's scale and shift in them; computed in float64."""
    layout, weight = layout_of(layer), layer.weight
    mean, var, scale, shift = (None if tensor is None else tensor.double() for tensor in norm.tensors)
    bias = None if layer.bias is None else layer.bias.double()
    # As filters, (K, C/groups, taps), weights of all kinds of layers lie alike; the reshaped sizes are torch's.
    filters = layout.filters(weight.double())
    fused, moved = fuse_conv_bn_weights(filters, bias, mean, var, norm.eps, scale, shift)  # type: ignore[arg-type]
    layer.weight = like(weight, layout.from_filters(fused.detach(), weight).to(weight.dtype))
    trained = (weight if layer.bias is None else layer.bias).requires_grad
    layer.bias = nn.Parameter(moved.detach().to(weight.dtype), requires_grad=trained)


def _take_out(call: _Call) -> None:
    """Let the layer give what the norm gave, under its name: whoever compares graphs by names finds the same there."""
    node, source, graph = call.node, call.source, call.node.graph
    held = [given for given in node.all_input_nodes if given is not source]
    node.replace_all_uses_with(source)
    graph.erase_node(node)
    source.name = node.name
    for given in held:
        if not given.users:
            graph.erase_node(given)
