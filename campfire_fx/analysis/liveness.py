"""Liveness: mark and sweep over labels, from what is pinned back to what it needs.

A live output channel makes live every input channel that a non-zero kernel of it reads, unless that channel is a
constant that can be folded. What is not marked is dead, in every layer that shares the label.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from campfire_fx.analysis.constants import NAN, Constants
from campfire_fx.analysis.labelling import GraphRun, Labelling
from campfire_fx.analysis.labels import FIXED, Labelled, collapse
from campfire_fx.analysis.reader import Reader
from campfire_fx.analysis.rules import Held, Kind

logger = logging.getLogger(__name__)

_WORTH_MERGING_INTO = 0.1  # a kept constant smaller than this share of the largest would magnify rounding


@dataclass(slots=True, eq=False)
class Liveness:
    """What stays.

    Attributes:
        roots: the root of every label, int64 (labels,).
        alive: per root, whether its channels stay, bool (labels,).
        readers: the weights in use, in the order in which the graphs meet them.
        merges: weight id -> (group, channel kept) for each group whose constants are merged.
    """

    roots: Tensor
    alive: Tensor
    readers: list[Reader]
    merges: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def keeps(self, labels: Tensor) -> Tensor:
        """Whether each label's channels stay, same shape as `labels`; stretched dimensions are narrowed to one."""
        return torch.from_numpy(np.asarray(self.alive.numpy()[self._roots(labels)]))

    def roots_of(self, labels: Tensor) -> Tensor:
        """Return the root of each label, float64, same shape but for stretched dimensions, narrowed to one."""
        return torch.from_numpy(self._roots(labels).astype(np.float64))

    def _roots(self, labels: Tensor) -> NDArray[np.int64]:
        return np.asarray(self.roots.numpy()[collapse(labels).numpy().astype(np.int64)])


def find_live(
    labelling: Labelling, constants: Constants, *, round_to: int = 1, extra: Tensor | None = None
) -> Liveness:
    """Find what must stay.

    Args:
        labelling: the channel structure; its runs decide which layers are in use.
        constants: what is proven constant.
        round_to: keep just enough dead channels for every layer's count to be a multiple of this.
        extra: labels to keep whatever is known of them.
    """
    roots = labelling.structure.forest.roots()
    alive = torch.zeros(roots.numel(), dtype=torch.bool)
    alive[FIXED] = True
    if extra is not None:
        alive[roots[extra.long()]] = True
    live = Liveness(roots, alive, _readers(labelling, constants, roots))
    tensors, mixed = _node_labels(labelling, roots), labelling.structure.joined
    wholes = [roots[rows.long()] for rows in labelling.structure.wholes.values()]
    while True:
        _sweep(live)
        changed = (
            _complete(live, wholes)
            or _merge(live)
            or _balance_groups(live)
            or _round(live, round_to)
            or _fill(live, tensors, mixed)
        )
        if not changed:
            return live


def _readers(labelling: Labelling, constants: Constants, roots: Tensor) -> list[Reader]:
    readers = []
    for mixer in labelling.structure.mixers.values():
        calls = constants.inputs.get(id(mixer.weight), [])
        inference = [(c, v) for c, v in calls if not labelling.runs[c.graph].training]
        calls = inference or calls
        if not calls:
            continue
        constant = calls[0][1].clone()
        for _, other in calls[1:]:
            constant[constant != other] = NAN
        if constant.dtype is torch.bfloat16:
            constant = constant.float()  # numpy has no such numbers
        reads = mixer.reads()
        groups, outputs, inputs = reads.shape
        readers.append(
            Reader(
                mixer,
                roots[mixer.inputs.long()].view(groups, inputs),
                roots[mixer.outputs.long()].view(groups, outputs),
                reads,
                constant.view(groups, inputs),
                any(c.padded for c, _ in calls),
            )
        )
    return readers


def _sweep(live: Liveness) -> None:
    """Mark what live outputs read, to the fixed point; backwards through the graph two rounds are usual."""
    moving = True
    while moving:
        moving = False
        for reader in reversed(live.readers):
            moving |= reader.spread(live.alive)


def _merge(live: Liveness) -> bool:
    """Choose, per reader and group, the constant channel that the others are merged into; keep it alive."""
    changed = False
    for reader in live.readers:
        if reader.mergeable is None or not reader.moved(live.alive):
            continue
        inputs, alive = reader.inputs.numpy(), live.alive.numpy()
        merged = reader.mergeable.numpy() & reader.read_by_live(live.alive).numpy()
        size = np.where(merged, np.abs(reader.constant.numpy()), -1.0)
        usable = alive[inputs] & merged & (size >= _WORTH_MERGING_INTO * size.max(1, keepdims=True))
        best = np.where(usable, size, -1.0).argmax(1)
        channel = np.where(usable.any(1), best, size.argmax(1))
        groups = np.flatnonzero(merged.any(1))
        roots = inputs[groups, channel[groups]]
        changed |= not alive[roots].all()
        alive[roots] = True
        several = groups[merged[groups].sum(1) > 1]
        live.merges.pop(id(reader.mixer.weight), None)
        if several.size:
            chosen = zip(several.tolist(), channel[several].tolist(), strict=True)
            live.merges[id(reader.mixer.weight)] = list(chosen)
    return changed


def _complete(live: Liveness, wholes: list[Tensor]) -> bool:
    """Keep all channels of a row that goes whole or not at all, where one of them stays."""
    changed = False
    for rows in wholes:
        kept = live.alive[rows]
        revived = kept.any(1, keepdim=True) & ~kept
        changed |= bool(revived.any())
        live.alive[rows[revived]] = True
    return changed


def _balance_groups(live: Liveness) -> bool:
    """Grouped convolutions keep groups equal: a group goes whole, or all keep as many as the fullest."""
    changed = False
    alive = live.alive.numpy()
    for reader in live.readers:
        if reader.reads.shape[0] == 1 or reader.reads.shape[1:] == (1, 1):
            continue
        ports = reader.inputs.numpy(), reader.outputs.numpy()
        stays = (alive[ports[0]].any(1) | alive[ports[1]].any(1))[:, None]
        for port in ports:
            kept = alive[port]
            count = kept.sum(1, keepdims=True)
            short = np.where(stays, max(int(count.max()), 1) - count, 0)
            if not short.any():
                continue
            revived = ~kept & ((~kept).cumsum(1) <= short)
            if revived.any():
                alive[port[revived]] = True
                changed = True
                break  # a revived label may count in several groups: look again first
    return changed


def _round(live: Liveness, multiple: int) -> bool:
    """Keep dead channels until the count of each layer's outputs is a multiple."""
    if multiple == 1:
        return False
    changed = False
    for reader in (r for r in live.readers if not r.mixer.virtual):
        outputs = reader.outputs.flatten()
        kept = live.alive[outputs]
        count = int(kept.sum())
        wanted = min(-(-count // multiple) * multiple, outputs.numel())
        revived = outputs[~kept][: wanted - count]
        if revived.numel():
            live.alive[revived] = True
            changed = True
    return changed


def _node_labels(labelling: Labelling, roots: Tensor) -> list[tuple[GraphRun, fx.Node, Tensor]]:
    """Return the roots of every single-tensor node, in reverse order of execution; of shared labels once made."""
    found = []
    known: dict[int, Tensor] = {}
    for run in labelling.runs:
        for node in reversed(run.graph.nodes):
            value = run.values.get(node)
            if isinstance(value, Held):
                value = labelling.structure.tensors.get(id(value.tensor), (None, None))[1]
            if isinstance(value, Labelled) and value.labels.numel():
                if id(value) not in known:
                    known[id(value)] = roots[collapse(value.labels).long()].flatten()
                found.append((run, node, known[id(value)]))
    return found


def _fill(live: Liveness, tensors: list[tuple[GraphRun, fx.Node, Tensor]], mixed: Mapping[fx.Node, Any]) -> bool:
    """Keep one channel of a tensor that would vanish, unless all that reads it vanishes or can do without it.

    A concatenation can, but not with tensors that depend on no input: without the others they may be of another kind.
    """
    vanished: set[fx.Node] = set()
    for run, node, labels in tensors:
        if live.alive[labels].any():
            continue
        if all(user in vanished or (_can_skip(run, user) and user not in mixed) for user in node.users):
            vanished.add(node)
            continue
        live.alive[labels.amin()] = True
        return True
    return False


def _can_skip(run: GraphRun, user: fx.Node) -> bool:
    """Whether an operation still makes sense when one of its operands is gone: a concatenation does."""
    return user.op == "call_function" and run.rule(user).kind is Kind.CONCATENATE
