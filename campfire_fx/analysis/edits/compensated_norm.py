"""A norm over some of the channels that it measures, as graph operations: the others are constants it knows of."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from campfire_fx.analysis.compact import kept_line
from campfire_fx.analysis.edits.plan import Edit, hold, put_holder, replace
from campfire_fx.analysis.graph_run import GraphRun
from campfire_fx.analysis.liveness import Liveness
from campfire_fx.analysis.rules.gates import spread
from campfire_fx.analysis.rules.norms import NormArguments
from campfire_fx.base.compat import parameters_of


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What stays of a norm, and what is known of the rest.

    Attributes:
        norm: as it was.
        dim, ndim, dtype: where channels lie, in how many dimensions; of what it normalises.
        stays: which channels are still measured, bool (C,).
        groups: how many groups are left, each with as many channels.
        mean, spread: of the constants that go, per group left: their mean, and sum of squares around it, (G,).
        fill: what the norm makes of groups that go whole before its scale, 0 elsewhere, (C,).
    """

    norm: NormArguments
    dim: int
    ndim: int
    dtype: torch.dtype
    stays: Tensor
    groups: int
    mean: Tensor
    spread: Tensor
    fill: Tensor

    @staticmethod
    def of(norm: NormArguments, value: Tensor, dim: int, constant: Tensor, stays: Tensor) -> Parts:
        """Measure the constants (C,) that go; `value`: of the shape and dtype of what is normalised."""
        per_group = constant.view(norm.groups, -1)
        whole = ~stays.view(norm.groups, -1).any(1)
        gone = ~stays.view(norm.groups, -1)[~whole]
        count = gone.sum(1).clamp(min=1)
        values = per_group[~whole].masked_fill(~gone, 0.0)
        mean = values.sum(1) / count
        spread = ((values - mean[:, None]) ** 2).masked_fill(~gone, 0.0).sum(1)
        fill = torch.zeros_like(per_group)
        centred = per_group[whole] - per_group[whole].mean(1, keepdim=True)
        fill[whole] = centred / (centred.square().mean(1, keepdim=True) + norm.eps).sqrt()
        return Parts(norm, dim, value.ndim, value.dtype, stays, int((~whole).sum()), mean, spread, fill.flatten())


def put_norm(run: GraphRun, node: fx.Node, source: fx.Node, parts: Parts) -> None:
    """Put the operations in the place of a norm; `source` has the channels that stay.

    Channels that went come out as zeros before the scale, so that all the graph behind sees as many as before.
    """
    graph, root = node.graph, run.module
    with graph.inserting_before(node):
        normalised = _normalised(root, graph, node, source, parts)
        result = _restored(graph, normalised, parts)
        weight, bias = _affine(run, node, parts)
        if weight is not None and bias is not None:
            result = graph.call_function(torch.addcmul, (bias, result, weight))
        elif weight is not None:
            result = graph.call_function(operator.mul, (result, weight))
        elif bias is not None:
            result = graph.call_function(operator.add, (result, bias))
    replace(node, result, {})


def _normalised(root: fx.GraphModule, graph: fx.Graph, node: fx.Node, source: fx.Node, parts: Parts) -> fx.Node:
    call = graph.call_function
    ndim = parts.ndim
    per_group = int(parts.stays.sum()) // parts.groups
    whole = parts.stays.numel() // parts.norm.groups
    gone, grouped = whole - per_group, parts.groups > 1
    if not gone:  # groups have gone whole
        return call(F.group_norm, (source, parts.groups, None, None, parts.norm.eps))
    x = call(torch.unflatten, (source, 1, (parts.groups, per_group))) if grouped else source
    dims = tuple(range(2, ndim + 1)) if grouped else tuple(parts.norm.dims(ndim))
    both = call(torch.var_mean, (x, dims), {"correction": 0, "keepdim": True})
    var, mean = call(operator.getitem, (both, 0)), call(operator.getitem, (both, 1))
    apart = call(operator.sub, (_number(root, node, parts, "mean", parts.mean), mean))
    centre = call(operator.add, (mean, call(operator.mul, (apart, gone / whole))))
    rest = _number(root, node, parts, "rest", parts.spread / whole + parts.norm.eps)
    between = call(operator.mul, (call(torch.square, (apart,)), per_group * gone / whole**2))
    total = call(operator.add, (call(operator.mul, (var, per_group / whole)), call(operator.add, (between, rest))))
    y = call(operator.mul, (call(operator.sub, (x, centre)), call(torch.rsqrt, (total,))))
    return call(torch.flatten, (y, 1, 2)) if grouped else y


def _number(root: fx.GraphModule, node: fx.Node, parts: Parts, name: str, values: Tensor) -> Any:
    """Return a number for each group: written out where there is one, else a buffer (1, G, 1, ...)."""
    if values.numel() == 1:
        return float(values)
    value = values.view(1, -1, *[1] * (parts.ndim - 1)).to(parts.dtype)
    return hold(root, node.graph, f"{node.name}_{name}", value)


def _restored(graph: fx.Graph, y: fx.Node, parts: Parts) -> fx.Node:
    """Put zeros where channels went, for all that counts them; those that nothing reads vanish with their readers."""
    order = torch.cat([parts.stays.nonzero().flatten(), (~parts.stays).nonzero().flatten()]).argsort()
    return graph.call_function(spread, (y, parts.dim, order.tolist()))


def spread_edit(run: GraphRun, node: fx.Node, live: Liveness) -> Edit:
    """Return the edit that turns zeros among channels into those that are still read, or into nothing."""
    source, dim, order = node.args
    assert isinstance(source, fx.Node) and isinstance(dim, int)
    first, whole = (kept_line(run.values[n].labels, live, dim) for n in (source, node))
    places = torch.tensor(order)
    read = torch.zeros(len(places), dtype=torch.bool).scatter(0, places, whole)[len(first) :]  # of the zeros
    kept = torch.cat([first, read])
    moved = (kept.cumsum(0) - 1)[places[whole]]
    zeros = int(read.sum())

    def apply(replaced: dict[fx.Node, fx.Node]) -> None:
        result = replaced.get(source, source)
        with node.graph.inserting_before(node):
            if zeros:
                amounts = [0] * (2 * (len(run.values[node].shape) - dim))
                amounts[-1] = zeros
                result = node.graph.call_function(F.pad, (result, amounts))
            if not torch.equal(moved, torch.arange(len(moved))):
                index = hold(run.module, node.graph, f"{node.name}_index", moved)
                result = node.graph.call_function(torch.index_select, (result, dim, index))
        replace(node, result, replaced)

    return Edit(run, node, "zeros put in the places of constants", "a norm no longer measures them", apply)


def _affine(run: GraphRun, node: fx.Node, parts: Parts) -> tuple[fx.Node | None, fx.Node | None]:
    """Return the scale and the shift as nodes; what groups that went whole have become is part of the shift."""
    norm, graph = parts.norm, node.graph
    weight, bias = norm.weight, norm.bias
    if parts.fill.any():
        scaled = parts.fill if weight is None else parts.fill * weight.detach().double()
        shift = scaled if bias is None else bias.detach().double() + scaled
        like = next((t for t in (bias, weight) if t is not None), None)
        trained = like is not None and like.requires_grad
        bias = nn.Parameter(shift.to(parts.dtype), requires_grad=trained)
    places = _places(node)
    if node.op == "call_module":
        holder = put_holder(run.module, str(node.target))
        parameters_of(holder).clear()
        for name, tensor in (("weight", weight), ("bias", bias)):
            if isinstance(tensor, nn.Parameter):
                holder.register_parameter(name, tensor)
    found = []
    for name, tensor, old in (("weight", weight, norm.weight), ("bias", bias, norm.bias)):
        read = None
        if tensor is not None and tensor is old and name in places:
            read = places[name]
        elif tensor is not None and node.op == "call_module":
            read = graph.get_attr(f"{node.target}.{name}")
        elif tensor is not None:
            read = hold(run.module, graph, f"{node.name}_{name}", tensor.detach())
        if read is not None and parts.dim == 1 and parts.ndim > 2:
            read = graph.call_method("view", (read, -1, *[1] * (parts.ndim - 2)))
        found.append(read)
    return found[0], found[1]


def _places(node: fx.Node) -> dict[str, fx.Node]:
    """Return the nodes that give a functional norm its scale and shift."""
    given = dict(zip(("input", "sizes", "weight", "bias"), node.args, strict=False)) | dict(node.kwargs)
    return {name: value for name in ("weight", "bias") if isinstance(value := given.get(name), fx.Node)}
