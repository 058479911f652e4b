"""Crop kernels: taps that no weight of a layer uses leave it, and its padding and dilation make up for them.

Only zeros are removed, so the output is the same: a 3x3 kernel becomes 1x3, 2x2 or 1x1. StructADMM
(arXiv 1807.11091, sec. II) prunes the columns of the GEMM that a convolution is; a tap whose columns are all gone is
the case in which the convolution itself becomes smaller. Where taps go from one side only, the input is padded by a
call of its own, which costs memory traffic, so that is done only where the multiplications saved are worth more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from campfire_fx.analysis.compact import select
from campfire_fx.analysis.edits.convolutions import Convolutions, PlainConvolution, first_input, is_plain
from campfire_fx.analysis.edits.cuts import Cuts, TensorCut, convolving, like
from campfire_fx.analysis.edits.plan import exchange, set_argument
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.labelling import Labelling
from campfire_fx.analysis.liveness import Liveness
from campfire_fx.analysis.plan import KernelChange
from campfire_fx.analysis.reader import Reader
from campfire_fx.analysis.taps import Taps, smallest
from campfire_fx.base.timing import MACS_PER_MOVE
from campfire_fx.passes.runner import Result, graph_pass, removal_decided

_FEW = 4  # filters: where these use every tap, nobody need look at the others


@graph_pass(requires=(removal_decided,))
def crop_kernels(facts: Facts) -> Result:
    """Crop the kernels of plain convolutions; what was done, and what was left alone and why: a `KernelChange` each."""
    labelling, live, cuts = facts.labelling, facts.decided.live, facts.decided.cuts
    convolutions, changes = Convolutions(labelling), list[KernelChange]()
    new: dict[int, Tensor] = {}
    for reader, weight in convolving(live.readers, cuts):
        used = _used(weight.detach())
        if [len(taps) for taps in used] == list(weight.shape[2:]):
            continue
        found = convolutions.read(reader.mixer, weight) if is_plain(reader.mixer) else "it is transposed"
        taps = [] if isinstance(found, str) else _choose(labelling, live, reader, found, used)
        if isinstance(found, str):
            changes.append(_left(reader, weight, found))
        elif sum(len(one.kept) for one in taps) == sum(weight.shape[2:]):
            why = _why_not_padded(labelling, found) or "padding its input does not pay"
            changes.append(_left(reader, weight, f"no even padding fits, and {why}"))
        else:
            new[id(weight)] = _crop(cuts, reader, weight, taps)
            changes.append(_set(found, taps))
    exchange(labelling.captured.module, new)
    return Result(bool(new), tuple(changes))


def _used(weight: Tensor) -> list[list[int]]:
    """Return, per spatial axis, the taps at which some kernel is not zero."""
    for part in (weight[:_FEW], weight):
        taps = (part != 0).flatten(0, 1).any(0)
        if taps.all():
            break
    indices = taps.nonzero()
    return [sorted(set(indices[:, axis].tolist())) for axis in range(taps.ndim)]


def _choose(
    labelling: Labelling, live: Liveness, reader: Reader, conv: PlainConvolution, used: Sequence[Sequence[int]]
) -> list[Taps]:
    """Return the taps to keep along each axis: those that any padding allows where paying for it is worth while."""
    pairs = list(zip(conv.settings.axes, used, strict=True))
    even = [smallest(axis, taps, even=True) for axis, taps in pairs]
    if not all(one.even for one in even):  # "same" for a kernel of even size
        even = [smallest(axis, range(axis.size), even=False) for axis in conv.settings.axes]
    if _why_not_padded(labelling, conv):
        return even
    any_pad = [smallest(axis, taps, even=False) for axis, taps in pairs]
    saved = moved = 0
    for run, call in conv.sites:
        outputs, inputs = run.values[call.node].shape, run.values[call.source].shape
        per_tap = conv.weight.shape[0] * conv.weight.shape[1] * outputs.numel() // outputs[call.channel_dim]
        saved += per_tap * (math.prod(len(t.kept) for t in even) - math.prod(len(t.kept) for t in any_pad))
        channels = int(live.alive[reader.inputs].sum())
        moved += 2 * channels * inputs.numel() // inputs[call.channel_dim]
    return any_pad if saved > MACS_PER_MOVE * moved else even


def _why_not_padded(labelling: Labelling, conv: PlainConvolution) -> str:
    """Say why inputs cannot be padded by a call before the convolution; "" where they can."""
    if conv.settings.mode != "zeros":
        return f'padding_mode="{conv.settings.mode}" has no other'
    if any(island.path for island in labelling.captured.islands):
        return "code outside of the graphs may call it"
    return ""


def _crop(cuts: Cuts, reader: Reader, weight: Tensor, taps: Sequence[Taps]) -> Tensor:
    """Keep the taps of a weight, and note the cut."""
    kept = [_index(one, size) for one, size in zip(taps, weight.shape[2:], strict=True)]
    cropped = like(weight, select(weight.detach(), [None, None, *kept]).contiguous())
    cut = cuts.tensors.setdefault(id(reader.mixer.weight), TensorCut(weight, weight, (None,) * weight.ndim, reader))
    cut.new, cut.keep = cropped, (*cut.keep[:2], *kept)
    return cropped


def _index(taps: Taps, size: int) -> Tensor | None:
    return None if len(taps.kept) == size else torch.tensor(taps.kept)


def _set(conv: PlainConvolution, taps: Sequence[Taps]) -> KernelChange:
    """Give every call the settings for the smaller kernel, and pad inputs where a convolution cannot."""
    axes = [one.axis if one.even else replace(one.axis, front=0, back=0) for one in taps]
    conv.set(replace(conv.settings, axes=tuple(axes)))
    padded = not all(one.even for one in taps)
    if padded:
        ends = [(0, 0) if one.even else (one.axis.front, one.axis.back) for one in taps]
        for _, call in conv.sites:
            pad_input(call.node, ends)
    return KernelChange(
        name=conv.mixer.name,
        before=tuple(axis.size for axis in conv.settings.axes),
        after=tuple(axis.size for axis in axes),
        dilation=tuple(axis.dilation for axis in axes),
        padding=tuple((one.axis.front, one.axis.back) for one in taps),
        padded=padded,
    )


def pad_input(node: fx.Node, ends: Sequence[tuple[int, int]]) -> None:
    """Pad the first input of a call with zeros, (front, back) per spatial axis; negative: cut it off."""
    with node.graph.inserting_before(node):
        padded = node.graph.call_function(
            F.pad, (first_input(node), [amount for end in reversed(ends) for amount in end])
        )
    set_argument(node, 0, "input", padded)


def _left(reader: Reader, weight: Tensor, reason: str) -> KernelChange:
    size = tuple(weight.shape[2:])
    return KernelChange(reader.mixer.name, size, size, reason=reason)
