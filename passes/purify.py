"""Purify: zero the columns and channels of sparse convolutions that hold next to nothing. Lossy, and never run unasked.

StructADMM's network purification (TNNLS 2021): on a loss that is not convex ADMM need not reach its constraint, and
groups that were kept may bring little. Its unused paths are liveness: a filter that no live kernel reads is not counted
here, and `shrink` removes it exactly. The algorithm is recollected, not read in the paper.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.reader import Reader
from campfire_fx.base.numbers import plain_fields
from campfire_fx.base.records import Record
from campfire_fx.passes.runner import Result, graph_pass, nothing_decided


@dataclass(frozen=True, slots=True)
class Thresholds(Record):
    """What is next to nothing.

    Attributes:
        column: of a column's L2 norm, as a share of the root mean square over the live columns of its layer.
        channel: the same of an input channel's norm.
        emptiness: a channel goes when so large a share of its columns is zero, in (0, 1].
    """

    column: float = 0.0
    channel: float = 0.0
    emptiness: float = 1.0

    def __post_init__(self) -> None:
        plain_fields(self)


@dataclass(frozen=True, slots=True)
class PurifiedLayer(Record):
    """What became of one convolution.

    Attributes:
        name: its path.
        operation: "Conv2d", ...
        shape: of its weight.
        columns: how many live ones went, of how many; those of channels that went included.
        channels: how many live input channels went, of how many (of all groups).
        weights: how many that were not zero are now.
        share: of the weight's squared norm that went.
    """

    name: str
    operation: str
    shape: tuple[int, ...]
    columns: tuple[int, int]
    channels: tuple[int, int]
    weights: int
    share: float


@graph_pass(requires=(nothing_decided,))
@torch.no_grad()
def purify(facts: Facts, *, thresholds: Thresholds, layers: Sequence[str] | None = None) -> Result:
    """Zero what is under the thresholds, again and again until nothing more falls under them.

    What liveness finds dead does not count in a norm, so that one layer's loss shows in the layers around it. Shares
    are of the norms that layers have at first. One channel of each layer always stays.

    Args:
        facts: of the model; its parameters are written to.
        thresholds: what is next to nothing.
        layers: patterns of paths; None: convolutions that hold a zero weight.

    What was done: a `PurifiedLayer` for every layer that was looked at, in the model's order.
    """
    before: dict[str, tuple[Reader, Tensor]] = {}
    scales: dict[str, tuple[float, float]] = {}
    rounds, changed = 0, True
    while changed:
        rounds, changed = rounds + 1, False
        live = facts.live
        for reader in reversed(live.readers):
            weight, name = reader.mixer.weight, reader.mixer.name
            if name not in before:
                if not _is_meant(reader, layers):
                    continue
                before[name] = (reader, weight.detach().clone())
            kernels = reader.mixer.layout.kernels(weight)
            counted = live.alive[reader.outputs][..., None, None] & (live.alive[reader.inputs][:, None, :, None])
            columns = (kernels * counted).double().square().sum(1)  # (groups, channels, taps), squared norms
            scale = scales.setdefault(name, (_mean(columns), _mean(columns.sum(-1))))
            gone = _small(columns, thresholds, scale)
            if bool((gone[:, None] & (kernels != 0)).any()):
                left = kernels.masked_fill(gone[:, None], 0.0)
                weight.copy_(reader.mixer.layout.weight(left, weight))
                changed = True
        facts = facts.after_change()
    return Result(rounds > 1, tuple(_described(reader, old) for reader, old in reversed(before.values())))


def _is_meant(reader: Reader, layers: Sequence[str] | None) -> bool:
    mixer = reader.mixer
    if mixer.virtual or not mixer.operation.startswith("Conv"):
        return False
    if layers is None:
        return bool((mixer.weight == 0).any())
    return any(fnmatch.fnmatchcase(mixer.name, pattern) for pattern in layers)


def _mean(squares: Tensor) -> float:
    """Return the mean of those that are not zero."""
    return float(squares.sum() / (squares > 0).sum().clamp(min=1))


def _small(columns: Tensor, thresholds: Thresholds, scale: tuple[float, float]) -> Tensor:
    """Mark the columns to be zeroed; those of channels that go are among them.

    Args:
        columns: (groups, channels, taps), squared norms.
        thresholds: what is next to nothing.
        scale: mean squared norm of the live columns and channels of the layer.
    """
    small = columns < thresholds.column**2 * scale[0]
    channels = columns.sum(-1)
    empty = (small | (columns == 0)).double().mean(-1) >= thresholds.emptiness
    gone = empty | (channels < thresholds.channel**2 * scale[1])
    marked = small | gone[..., None]
    best = channels.flatten().argmax()
    if not bool((channels > 0)[~gone].any()):  # nothing would be left: its largest channel is
        marked.flatten(0, 1)[best] = False
    return marked


def _described(reader: Reader, before: Tensor) -> PurifiedLayer:
    mixer = reader.mixer
    old, new = (
        mixer.layout.kernels(tensor).transpose(1, 2).abs().double() for tensor in (before, mixer.weight.detach())
    )
    counts = [(int(t.sum((-1, -2)).count_nonzero()), int(t.sum(-2).count_nonzero())) for t in (old, new)]
    size = float(old.square().sum())
    return PurifiedLayer(
        mixer.name,
        mixer.operation,
        tuple(before.shape),
        columns=(counts[0][1] - counts[1][1], counts[0][1]),
        channels=(counts[0][0] - counts[1][0], counts[0][0]),
        weights=int(before.count_nonzero() - mixer.weight.count_nonzero()),
        share=1 - float(new.square().sum()) / size if size else 0.0,
    )


def shares(thresholds: Thresholds) -> Mapping[str, float]:
    """Return the thresholds by name."""
    return {name: getattr(thresholds, name) for name in ("column", "channel", "emptiness")}
