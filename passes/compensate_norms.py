"""Compensate norms: channels that are constant where LayerNorm or GroupNorm measures them are taken out of it.

Of C channels let K stay, and let those that go be constants with mean m and variance v (n = C - K of them). Then the
mean of all is that of the K moved towards m by a share n / C, and the variance of all follows from theirs
(Chan, Golub, LeVeque 1979): (K var_K + n v + (K n / C) (m - mean_K)^2) / C. What the norm made of the channels
that went must not be needed: nothing reads it, its scale is zero, or every reader can take others in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from campfire_fx.analysis.compact import kept_line
from campfire_fx.analysis.constants import per_channel
from campfire_fx.analysis.edits.compensated_norm import Parts, put_norm
from campfire_fx.analysis.edits.convolutions import first_input
from campfire_fx.analysis.edits.plan import hold
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.graph_run import GraphRun
from campfire_fx.analysis.labelling import make_call
from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.norm_readers import Readers, find_readers, representatives, substitute, substitution
from campfire_fx.analysis.plan import Repair
from campfire_fx.analysis.reader import Reader
from campfire_fx.analysis.rules import Kind
from campfire_fx.analysis.rules.kinds import ON_ONE
from campfire_fx.analysis.rules.norms import NORMS, NormArguments, read_norm
from campfire_fx.base.compat import enter_autocast
from campfire_fx.base.location import place
from campfire_fx.base.timing import MACS_PER_MOVE
from campfire_fx.layers.dual import graphs_of
from campfire_fx.passes.runner import Result, graph_pass, nothing_decided

_MOVES = 5  # times that the K channels are moved through memory more often than torch's own norm moves them


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A norm some of whose channels come in constant.

    Attributes:
        run, node: where it is called.
        source: what it normalises.
        norm: how.
        dim: where channels lie.
        constant: what each brings, float64 (C,), NaN where it depends on the input.
        scale, bias: per channel, float64.
    """

    run: GraphRun
    node: fx.Node
    source: fx.Node
    norm: NormArguments
    dim: int
    constant: Tensor
    scale: Tensor
    bias: Tensor

    @property
    def known(self) -> Tensor:
        """Which channels come in constant, bool (C,)."""
        return ~self.constant.isnan()


@graph_pass(requires=(nothing_decided,))
def compensate_norms(facts: Facts, *, wish: str) -> Result:
    """Take constant channels out of norms over channels.

    Args:
        facts: of the graphs as they are.
        wish: "auto": where multiplications saved are worth more than the memory traffic of the longer expression;
            "always": wherever that makes the model smaller.
    """
    sites = [site for run in facts.labelling.runs for site in _sites(facts, run)]
    if not sites:
        return Result(changed=False)
    live = facts.live
    by_node = {(call.graph, call.node): r for r in live.readers for call in r.mixer.calls if not r.mixer.virtual}
    plans = [plan for site in sites if (plan := _plan(facts, site, by_node, wish)) is not None]
    repairs = tuple(_carry_out(plan) for plan in plans)
    return Result(bool(repairs), repairs)


def _sites(facts: Facts, run: GraphRun) -> list[Site]:
    casts = run.graph.find_nodes(op="call_function", target=enter_autocast)
    if len(graphs_of(run.module)) > 1 or casts:
        return []
    calls = [n for n in run.graph.nodes if n.op in ("call_module", "call_function") and run.target(n) in NORMS]
    used = [run.submodule(node) for node in calls]
    once = [n for n, m in zip(calls, used, strict=True) if m is None or used.count(m) == 1]
    found = [_site(facts, run, node) for node in once]
    return [site for site in found if site is not None]


def _site(facts: Facts, run: GraphRun, node: fx.Node) -> Site | None:
    call = make_call(run, node, facts.labelling.structure, lambda _: None, run.rule(node))
    norm, source, value = read_norm(call), call.operand(0, "input"), call.get(0, "input")
    if norm is None or source is None or norm.last > 1 or not isinstance(value, Labelled):
        return None
    dim = len(value.shape) - 1 if norm.last else 1
    channels = value.shape[dim]
    if norm.groups == channels:
        return None  # each by itself
    given = [tensor for tensor in (norm.weight, norm.bias) if tensor is not None]
    values = facts.constants.values[run.number][source]
    if source in facts.constants.overwritten:
        return None  # the norm may have read other values
    if any(t.shape != (channels,) for t in given) or values.dtype not in (torch.float32, torch.float64):
        return None
    constant = per_channel(values, dim).double()
    if bool(constant.isnan().all()) or not bool(constant.isnan().any()):
        return None
    scale = torch.ones(channels) if norm.weight is None else norm.weight.detach()
    bias = torch.zeros(channels) if norm.bias is None else norm.bias.detach()
    return Site(run, node, source, norm, dim, constant, scale.double(), bias.double())


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What to do at one site; `before`: a depthwise layer to cut, `kept`: what is read in the place of `gone`."""

    site: Site
    parts: Parts
    readers: Readers
    before: Reader | None
    gone: Tensor
    kept: Tensor | None


def _plan(facts: Facts, site: Site, by_node: dict[Any, Reader], wish: str) -> _Plan | None:
    readers = find_readers(site.run, site.node, site.dim, by_node, facts.live)
    shared = facts.labelling.structure.tensors
    movable = site.known & readers.read
    kept = None
    if site.norm.groups == 1 and movable.any() and not any(id(m.reader.mixer.weight) in shared for m in readers.mixes):
        kept = _kept_for_others(site, readers, movable)
    goes = site.known & (~readers.read | (site.scale == 0))
    if kept is not None:
        goes = site.known.clone()
        goes[kept] = False
    parts = _parts(facts, site, goes)
    lives = kept_line(site.run.values[site.source].labels, facts.live, site.dim)
    if parts is None or not lives[~parts.stays].any():
        return None  # groups that are dead as a whole need no compensation
    before = _before(site, by_node)
    if wish == "auto" and not _pays(parts, readers, before):
        return None
    cut = before if before is not None and _can_be_cut(site, before) and id(before.mixer.weight) not in shared else None
    return _Plan(site, parts, readers, cut, (~parts.stays & movable).nonzero().flatten(), kept)


def _carry_out(plan: _Plan) -> Repair:
    site, parts = plan.site, plan.parts
    if plan.kept is not None:
        change = substitution(site.constant, site.scale, site.bias, plan.gone, plan.kept)
        for mix in plan.readers.mixes:
            substitute(mix, change)
    source = first_input(site.node)
    if plan.before is not None:
        _cut_depthwise(site, plan.before, parts)
    else:
        with site.node.graph.inserting_before(site.node):
            source = _selected(site.run, site.node, source, site.dim, parts)
    put_norm(site.run, site.node, source, parts)
    count = int((~parts.stays).sum())
    return Repair(place(site.node), "norm compensated", f"{count} of the channels that it measures are constants")


def _kept_for_others(site: Site, readers: Readers, movable: Tensor) -> Tensor | None:
    """Return the channels that all readers can read in the place of the others, or None if they cannot."""
    if not readers.can_take_others(site.bias):
        return None
    kept = representatives(site.constant, site.scale, movable)
    if kept is None:
        return None
    wanted = movable.nonzero().flatten()
    for mix in readers.mixes:
        times = torch.bincount(mix.index[mix.index >= 0], minlength=movable.numel())[wanted]
        if times.unique().numel() > 1:
            return None  # it reads some of them alone
    return kept


def _parts(facts: Facts, site: Site, goes: Tensor) -> Parts | None:
    """Return the norm without the channels that go; groups stay equal, one of constants alone goes whole."""
    per_group = goes.view(site.norm.groups, -1).clone()
    whole = site.known.view(site.norm.groups, -1).all(1)
    per_group[whole] = True
    least = int(per_group[~whole].sum(1).min())
    for group in (~whole).nonzero().flatten().tolist():
        per_group[group, per_group[group].nonzero().flatten()[least:]] = False
    stays = ~per_group.flatten()
    if stays.all():
        return None
    value = facts.constants.values[site.run.number][site.source]
    return Parts.of(site.norm, value, site.dim, site.constant, stays)


def _before(site: Site, by_node: dict[Any, Reader]) -> Reader | None:
    """Return the layer that makes the channels for this norm alone, if there is one."""
    run, node = site.run, site.source
    while len(node.users) == 1:
        reader = by_node.get((run.number, node))
        if reader is not None:
            return reader if len(reader.mixer.calls) == 1 else None
        calls = node.op in ("call_module", "call_function", "call_method")
        passes = calls and run.rule(node).kind in (*ON_ONE, Kind.PERMUTE, Kind.IDENTITY)
        activations = [n for n in node.all_input_nodes if isinstance(run.values[n], Labelled)]
        if not passes or len(activations) != 1:
            return None
        node = activations[0]
    return None


def _is_depthwise(reader: Reader) -> bool:
    return reader.reads.shape[0] > 1 and reader.reads.shape[1:] == (1, 1)


def _can_be_cut(site: Site, before: Reader) -> bool:
    """Whether a layer is depthwise, and nothing with channels of its own lies between it and the norm."""
    call, node = before.mixer.calls[0], site.source
    while node is not call.node:
        if site.run.rule(node).kind is Kind.PER_CHANNEL:
            return False
        node = node.all_input_nodes[0]
    return call.module is not None and _is_depthwise(before) and before.mixer.layout.out_axis == 0


def _pays(parts: Parts, readers: Readers, before: Reader | None) -> bool:
    """Whether the multiply-adds saved per position are worth more than the memory traffic added."""
    gone, left = int((~parts.stays).sum()), int(parts.stays.sum())
    saved = sum(mix.reader.mixer.weight.numel() // mix.reader.inputs.numel() for mix in readers.mixes)
    moves = _MOVES * left
    if before is not None:
        saved += before.mixer.weight.numel() // before.outputs.numel()
    if before is None or _is_depthwise(before):
        moves += 2 * left  # a selection stays in the graph
    return gone * saved > MACS_PER_MOVE * moves


def _selected(run: GraphRun, node: fx.Node, source: fx.Node, dim: int, parts: Parts) -> fx.Node:
    index = hold(run.module, node.graph, f"{node.name}_live", parts.stays.nonzero().flatten())
    return node.graph.call_function(torch.index_select, (source, dim, index))


def _cut_depthwise(site: Site, before: Reader, parts: Parts) -> None:
    """Cut a depthwise layer that only this norm reads: its channels are selected before it."""
    call, index = before.mixer.calls[0], parts.stays.nonzero().flatten()
    module: Any = call.module
    source = first_input(call.node)
    with call.node.graph.inserting_before(call.node):
        chosen = _selected(site.run, call.node, source, call.channel_dim, parts)
    call.node.replace_input_with(source, chosen)
    for name in ("weight", "bias"):
        old = getattr(module, name)
        if old is not None:
            new = old.detach().index_select(0, index.to(old.device))
            module.register_parameter(name, nn.Parameter(new, requires_grad=old.requires_grad))
    module.in_channels = module.out_channels = module.groups = index.numel()
