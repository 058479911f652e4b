"""Coupled channels: which filters, norm entries and input channels a shrink removes only together, and at what gain.

Labels say it: what has one label is one channel. Channels are coupled further where GroupNorm normalises them together:
these go together. In grouped convolutions, whose groups stay equal, whole groups go, or every group loses as many. A
channel is in a group only if a shrink really removes it when all that the group owns is zero; that is tried, on the
weights themselves.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import gcd, prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.forest import Joins
from campfire_fx.analysis.labelling import Labelling, label
from campfire_fx.analysis.rules import Transfer
from campfire_fx.analysis.rules.structure import Mixer, Structure
from campfire_fx.base.errors import ShrinkError
from campfire_fx.layers.unused import used_paths
from campfire_fx.sparsity.channels.coupling import (
    Alive,
    CoupledLayer,
    CoupledSet,
    CoupledVector,
    Coupling,
    Groups,
    Stays,
    lives,
)

Keeps = Mapping[str, str]
"""Path of a layer -> why the channels that it writes have to stay."""


def find_coupling(captured: Captured, masked: Mapping[int, str], keeps: Keeps | None = None) -> Coupling:
    """Find the coupled channels of a captured model.

    Args:
        captured: the traced model; its weights are as they were when this returns.
        masked: id of each weight that can hold a mask -> path of its layer.
        keeps: layers whose output channels have to stay, and why.
    """
    labelling = _facts(captured).labelling
    structure = labelling.structure
    keeps = keeps or {}
    mixers = [mixer for mixer in structure.mixers.values() if mixer.calls]
    paths = {id(mixer): masked.get(id(mixer.weight), mixer.name) for mixer in mixers}
    forest = _coupled(structure, mixers)
    kept = [mixer.outputs for mixer in mixers if paths[id(mixer)] in keeps]
    if kept:
        forest.fix(torch.cat(kept))
    stays = [Stays(pin.node, pin.channels, pin.reason) for pin in structure.pins]
    stays += [Stays(path, m.outputs.numel(), keeps[path]) for m in mixers if (path := paths[id(m)]) in keeps]
    coupling = _coupling(labelling, forest, mixers, paths, masked, tuple(stays))
    stuck = _stuck(captured, coupling)
    if not stuck.any():
        return coupling
    fixed = {s for s in range(len(coupling.sets)) if stuck[coupling.sets[s].start : coupling.sets[s].stop].any()}
    for mixer, layer in zip((m for m in mixers if not m.virtual), coupling.layers, strict=True):
        for labels, groups in ((mixer.outputs, layer.outputs), (mixer.inputs, layer.inputs.reshape(-1))):
            gone = np.isin(_set_numbers(coupling, groups), list(fixed))
            if gone.any():
                forest.fix(labels[torch.from_numpy(gone)])
    reason = "something other than a masked layer reads them"
    stays += [Stays(one.name, one.size * one.channels, reason) for s, one in enumerate(coupling.sets) if s in fixed]
    return _coupling(labelling, forest, mixers, paths, masked, tuple(stays))


def _facts(captured: Captured) -> Facts:
    """Return the facts of both modes; of evaluation alone, where the example is one that training cannot take."""
    facts = Facts(captured)
    try:
        facts.labelling = label(captured)
    except ShrinkError:
        facts.labelling = label(captured, training=False)
    return facts


def _set_numbers(coupling: Coupling, groups: Groups) -> Groups:
    return np.where(groups >= 0, np.append(coupling.set_of, -1)[groups], -1)


def _coupled(structure: Structure, mixers: Iterable[Mixer]) -> Joins:
    """Return the labels with the further coupling of grouped layers and of norms over groups joined."""
    forest = Joins(structure.forest)
    for rows in structure.wholes.values():
        forest.join(rows, rows[:, :1])
    for mixer in mixers:
        groups, outputs, inputs, _ = mixer.layout.kernels(mixer.weight).shape
        if groups == 1 or outputs == inputs == 1:
            continue
        ports = mixer.inputs.view(groups, inputs), mixer.outputs.view(groups, outputs)
        ways = [copy.deepcopy(forest) for _ in range(2)]
        ways[0].join(ports[0], ports[0][:, :1])
        ways[0].join(ports[1], ports[0][:, :1])  # a group goes whole
        for port in ports:
            ways[1].join(port, port[:1])  # every group loses as many
        forest = max(ways, key=lambda way: _removable(way, ports))
    return forest


def _removable(forest: Joins, ports: Iterable[Tensor]) -> int:
    roots = torch.cat([forest.find(port).flatten() for port in ports]).unique()
    return int((roots != 0).sum())


def _coupling(
    labelling: Labelling,
    forest: Joins,
    mixers: list[Mixer],
    paths: Mapping[int, str],
    masked: Mapping[int, str],
    stays: tuple[Stays, ...],
) -> Coupling:
    """Number the groups, set by set, and say of every tensor which entries are whose."""
    sets, number = _sets(forest, mixers, paths)

    def groups_of(labels: Tensor) -> Groups:
        return np.asarray(number[forest.find(labels).numpy().astype(np.int64)])

    macs, parameters = _macs(labelling), _parameters(labelling.captured)
    layers = []
    for mixer in (mixer for mixer in mixers if not mixer.virtual):
        groups, _, inputs, taps = mixer.layout.kernels(mixer.weight).shape
        ports = groups_of(mixer.outputs), groups_of(mixer.inputs).reshape(groups, inputs)
        path, holds = paths[id(mixer)], id(mixer.weight) in masked
        axis, stored = mixer.layout.out_axis, id(mixer.weight) in parameters
        layers.append(CoupledLayer(path, mixer.operation, *ports, taps, macs(mixer), holds, axis, stored))
    vectors = tuple(_vectors(labelling, groups_of, parameters))
    named = tuple(_with_norms(one, vectors) for one in sets)
    counted = sum(layer.outputs.size * layer.inputs.shape[1] * layer.taps for layer in layers if layer.stored)
    counted += sum(vector.groups.size for vector in vectors if vector.parameter)
    total = sum(parameters.values())
    lone = [one.start for one in sets if one.size == 1]  # of each set one group stays
    joined = {
        group: Stays(layer.path, int(count), "an operation combines all of them")
        for layer in reversed(layers)
        for group in lone
        if (count := np.count_nonzero(layer.outputs == group)) > 1
    }
    return Coupling(named, tuple(layers), vectors, (*stays, *joined.values()), other_parameters=total - counted)


def _sets(forest: Joins, mixers: list[Mixer], paths: Mapping[int, str]) -> tuple[list[CoupledSet], Groups]:
    """Return the sets, and the group of every root of the forest."""
    ports: dict[int, list[tuple[int, bool, int]]] = defaultdict(list)  # root -> mixer, whether it writes, how often
    for place, mixer in enumerate(mixers):
        for writes, labels in ((False, mixer.inputs), (True, mixer.outputs)):
            roots, counts = forest.find(labels).unique(return_counts=True)
            for root, count in zip(roots.long().tolist(), counts.tolist(), strict=True):
                ports[root].append((place, writes, count))
    ports.pop(0, None)
    alike: dict[tuple[tuple[int, bool, int], ...], list[int]] = defaultdict(list)
    for root in sorted(ports):
        if any(writes for _, writes, _ in ports[root]):
            alike[tuple(ports[root])].append(root)
    number = np.full(forest.size, -1, dtype=np.int64)
    found: list[CoupledSet] = []
    named: dict[str, int] = defaultdict(int)
    for signature, roots in sorted(alike.items()):
        start = found[-1].stop if found else 0
        number[roots] = np.arange(start, start + len(roots))
        own = [(paths[id(mixers[place])], writes) for place, writes, _ in signature if not mixers[place].virtual]
        writers = tuple(dict.fromkeys(path for path, writes in own if writes))
        readers = tuple(dict.fromkeys(path for path, writes in own if not writes))
        first = (writers or readers or ("?",))[0]
        named[first] += 1
        name = first if named[first] == 1 else f"{first} [{named[first]}]"
        channels = gcd(*(count for _, writes, count in signature if writes))
        size = len(roots)
        found.append(CoupledSet(name, start, start + size, writers, readers, channels=channels, whole=size))
    return found, number


def _with_norms(one: CoupledSet, vectors: tuple[CoupledVector, ...]) -> CoupledSet:
    norms = [v.norm for v in vectors if v.norm and ((v.groups >= one.start) & (v.groups < one.stop)).any()]
    return replace(one, norms=tuple(dict.fromkeys(norms)))


def _vectors(
    labelling: Labelling, groups_of: Callable[[Tensor], Groups], parameters: Container[int]
) -> Iterator[CoupledVector]:
    structure = labelling.structure
    paths = {id(module): path for path, module in labelling.captured.module.named_modules()}
    norms = {
        id(tensor): paths[id(module)]
        for run in labelling.runs
        for node in run.graph.find_nodes(op="call_module")
        if run.rule(node).constant is Transfer.AFFINE and id(module := run.submodule(node)) in paths
        for tensor in (getattr(module, "weight", None), getattr(module, "bias", None))
        if isinstance(tensor, Tensor)
    }
    held = [(tensor, labels.labels) for tensor, labels in structure.tensors.values()]
    for tensor, labels in (*held, *structure.biases.values()):
        name = structure.names.get(id(tensor), "")
        groups = groups_of(labels)
        if not name or not (groups >= 0).any():
            continue
        zeroed = isinstance(tensor, nn.Parameter) or name.rpartition(".")[2] == "running_mean"
        shaped, norm = groups.reshape(tensor.shape), norms.get(id(tensor), "")
        yield CoupledVector(name, shaped, id(tensor) in parameters, norm, zeroed)


def _parameters(captured: Captured) -> dict[int, int]:
    """Return id -> size of the parameters that a slim model has: not of auxiliary heads, nor of what nothing reads."""
    sizes = {id(parameter): parameter.numel() for parameter in captured.module.parameters()}
    for island in captured.islands:
        used = used_paths(modes.graph for modes in island.module.graph_variants)
        read: dict[int, bool] = defaultdict(bool)
        for name, parameter in island.module.named_parameters(remove_duplicate=False):
            ends = [i for i, character in enumerate(name) if character == "."]
            read[id(parameter)] |= name in used or any(name[:end] in used for end in ends)
        for key in (key for key, is_read in read.items() if not is_read):
            sizes.pop(key, None)
    return sizes


def _macs(labelling: Labelling) -> Callable[[Mixer], float]:
    """Return the function that counts the MACs of one kernel, over all calls on the first example."""
    seen: dict[int, int] = {}
    for run in labelling.runs:  # of several ways through the code the first
        if not run.training:
            seen.setdefault(id(run.module), run.number)
    first = set(seen.values())

    def of(mixer: Mixer) -> float:
        groups, outputs, inputs, taps = mixer.layout.kernels(mixer.weight).shape
        positions = 0
        for call in (call for call in mixer.calls if call.graph in first):
            values = labelling.runs[call.graph].values
            transposed = "transpose" in mixer.operation.lower()
            node, channels = (call.source, groups * inputs) if transposed else (call.node, groups * outputs)
            positions += prod(values[node].shape) // max(1, channels)
        return float(positions * taps)

    return of


def _stuck(captured: Captured, coupling: Coupling) -> Alive:
    """Return which groups a shrink keeps although all that they own is zero, but for one group of each set."""
    dead = np.ones(coupling.groups, dtype=np.bool_)
    for one in coupling.sets:
        dead[one.start] = False
    with _zeroed(captured.module, coupling, ~dead):
        facts = _facts(captured)
        facts.decide()
    live = facts.decided.live
    stuck = np.zeros(coupling.groups + 1, dtype=np.bool_)
    mixers = [m for m in facts.labelling.structure.mixers.values() if m.calls and not m.virtual]
    for mixer, layer in zip(mixers, coupling.layers, strict=True):
        for labels, groups in ((mixer.outputs, layer.outputs), (mixer.inputs, layer.inputs.reshape(-1))):
            stuck[groups[live.keeps(labels).expand(labels.shape).numpy()]] = True
    return stuck[:-1] & dead


@contextmanager
def _zeroed(model: nn.Module, coupling: Coupling, alive: Alive) -> Iterator[None]:
    """Zero for a while what dead groups own, where masks and their followers will."""
    tensors = dict([*model.named_buffers(), *model.named_parameters()])
    saved: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for layer in (layer for layer in coupling.layers if layer.masked):
            module: Any = model.get_submodule(layer.path)
            weight: Tensor = module.weight
            saved.append((weight, weight.detach().clone()))
            kernels = torch.from_numpy(layer.kernels(alive)).to(weight.device)
            weight.mul_(module.from_filters(kernels.unsqueeze(-1).expand(*kernels.shape, layer.taps)))
        for vector in (vector for vector in coupling.vectors if vector.zeroed):
            tensor = tensors[vector.name]
            saved.append((tensor, tensor.detach().clone()))
            tensor.mul_(torch.from_numpy(lives(vector.groups, alive)).to(tensor.device))
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, before in saved:
                tensor.copy_(before)
