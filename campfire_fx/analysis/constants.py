"""Constants: run a graph on NaN, where NaN means "depends on the input"; what stays a number is proven constant.

A layer that mixes channels gives, per output channel, NaN if any non-zero kernel reads a NaN channel, else its
constant. Everything else is executed: NaN flows through normalisation, activations, sums and pools by itself.
A channel (positions of one label) whose values are not all equal counts as NaN, because its values would depend on
the image size. Operations that swallow NaN give NaN (their rows say so).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

from campfire_fx.analysis.aliases import Memory
from campfire_fx.analysis.constant_flow import NAN, Propagation
from campfire_fx.analysis.labelling import GraphRun, Labelling
from campfire_fx.analysis.labels import Labelled, any_along, collapse, lines
from campfire_fx.analysis.rules import Held, Kind, mixing
from campfire_fx.analysis.rules.complex_numbers import known_zeros
from campfire_fx.analysis.rules.matmul import contracted_lines, form_of, two_operands
from campfire_fx.analysis.rules.movement import read_padding
from campfire_fx.analysis.rules.record import parts
from campfire_fx.analysis.rules.structure import MixCall, Mixer
from campfire_fx.base.untouched import training_flags

__all__ = ["NAN", "Constants", "bias_of", "find_constants", "folded"]


@dataclass(slots=True, eq=False)
class Constants:
    """What is proven constant.

    Attributes:
        values: per graph run, node -> values with NaN for "depends on the input", nested as the node's labels.
        inputs: weight id -> one vector (C,) per call of the weight: the constant that each input channel brings,
            NaN where it depends on the input.
        overwritten: nodes that a later call writes to in place: their values are those after it.
    """

    values: list[dict[fx.Node, Any]] = field(default_factory=list)
    inputs: dict[int, list[tuple[MixCall, Tensor]]] = field(default_factory=dict)
    overwritten: set[fx.Node] = field(default_factory=set)


def find_constants(labelling: Labelling) -> Constants:
    """Run the graphs on NaN, in evaluation mode whatever their modules' flags.

    A training graph whose layers all run in inference too is left out: it can prove nothing that counts.
    """
    found = Constants()
    calls: dict[Any, list[tuple[Mixer, MixCall]]] = {}  # attention is two readers: of keys, and of values
    for mixer in labelling.structure.mixers.values():
        for call in mixer.calls:
            calls.setdefault((call.graph, call.node), []).append((mixer, call))
    root = labelling.captured.module
    with torch.no_grad(), training_flags(root, False):
        for run in labelling.runs:
            found.values.append(_run(labelling, run, calls, found) if _counts(labelling, run) else {})
    return found


def _counts(labelling: Labelling, run: GraphRun) -> bool:
    if not run.training:
        return True
    inference = {other.number for other in labelling.runs if not other.training}
    used = ({call.graph for call in mixer.calls} for mixer in labelling.structure.mixers.values())
    return any(run.number in graphs and not graphs & inference for graphs in used)


def _run(
    labelling: Labelling, run: GraphRun, calls: dict[Any, list[tuple[Mixer, MixCall]]], found: Constants
) -> dict[fx.Node, Any]:
    dtype = next((p.dtype for p in run.module.parameters() if p.is_floating_point()), torch.float32)
    values: dict[fx.Node, Any] = {}
    through = Propagation(labelling.structure, run, values, dtype)
    memory = Memory(through.doubts, found.overwritten)
    for node in run.graph.nodes:
        labels = run.values.get(node)
        if node.op == "output":
            continue
        if node.op == "get_attr":
            values[node] = labels.tensor.detach() if isinstance(labels, Held) else labels
        elif node.op == "placeholder":
            values[node] = through.unknown(labels) if parts(labels, Labelled) else through.plain(node)
        elif (run.number, node) in calls:
            for mixer, call in calls[run.number, node]:
                if mixer.virtual:
                    values[node] = through.execute(node)
                    known = _contracted(mixer, labelling, run, node, values) if mixer.operation == "contract" else None
                    found.inputs[id(mixer.weight)] = [(call, _gated(run, call, values) if known is None else known)]
                else:
                    assert isinstance(labels, Labelled)
                    values[node] = _mix(mixer, _behind_padding(run, call), values, labels, found)
        else:
            values[node] = through.execute(node) if parts(labels, Labelled) else through.plain(node)
            memory.note(run, node, values)
    return values


def _mix(mixer: Mixer, call: MixCall, values: dict[fx.Node, Any], labels: Labelled, found: Constants) -> Tensor:
    """Give each output channel its constant, or NaN if a non-zero kernel reads what is not foldable."""
    constant = per_channel(values[call.source], call.channel_dim)
    constant = constant.masked_fill(~constant.isfinite(), NAN)  # infinity times a weight is not what is folded
    if mixer.weight.is_complex():  # of complex numbers only zero is known
        constant, call = constant.masked_fill(constant != 0, NAN), replace(call, padded=True)
    found.inputs.setdefault(id(mixer.weight), []).append((call, constant))
    unfoldable = constant.isnan()
    if call.padded:
        unfoldable |= constant != 0
    reads = mixer.reads()
    depends = any_along(reads & unfoldable.view(reads.shape[0], 1, -1), 2).flatten()
    # Behind padding, what is foldable is zero, or is not read.
    out = torch.zeros(depends.numel()).to(constant) if call.padded else folded(mixer, constant).to(constant)
    bias = bias_of(call)
    if bias is not None:
        out = out + bias.detach()
    if out.is_complex():
        out = known_zeros(out)
    out = out.masked_fill(depends, NAN)
    size = [1] * len(labels.shape)
    size[call.out_dim] = out.numel()
    return out.view(size).expand(labels.shape)


def _behind_padding(run: GraphRun, call: MixCall) -> MixCall:
    """Read through zeros padded around the image: a convolution after them is a padded convolution."""
    source = call.source
    if source.op not in ("call_module", "call_function") or run.rule(source).kind is not Kind.PAD:
        return call
    inner, outer, padding = source.args[0], run.values[source], read_padding(source, run.submodule(source))
    if padding.mode != "constant" or padding.value != 0 or not isinstance(inner, fx.Node):
        return call
    if run.values[inner].shape[call.channel_dim] != outer.shape[call.channel_dim]:
        return call
    return replace(call, source=inner, padded=True)


def per_channel(value: Tensor, dim: int) -> Tensor:
    """Return the constant of each channel along a dimension, NaN where its positions differ."""
    per_channel = lines(value, dim)
    constant = per_channel[:, 0].clone()
    if per_channel.shape[1] > 1:
        constant[(per_channel != per_channel[:, :1]).any(1)] = NAN  # NaN differs from itself: it stays NaN
    return constant


def _gated(run: GraphRun, call: MixCall, values: dict[fx.Node, Any]) -> Tensor:
    """Return what a gate can do without: constants that a branch adds, nothing of what a branch reads."""
    constant = per_channel(values[call.source], call.channel_dim)
    return constant if run.rule(call.node).kind is Kind.GATE_ADD else torch.full_like(constant, NAN)


def _contracted(mixer: Mixer, labelling: Labelling, run: GraphRun, node: fx.Node, values: dict[fx.Node, Any]) -> Tensor:
    """Return which channels a product of two activations can do without: 0 where either operand is, else NaN.

    Of attention also those in which all keys are alike: softmax takes no notice of what every key adds.
    """
    if not mixer.weight.any():  # it reads none
        return torch.full((mixer.inputs.numel(),), NAN)
    forest, sources = labelling.structure.forest, two_operands(node)
    form = form_of(node)
    one, other = (forest.find(run.values[source].labels) for source in sources)
    first, second = (collapse(values[source]) == 0 for source in sources)
    if run.rule(node).kind is Kind.ATTEND:
        keys = collapse(values[sources[1]])
        alike = (keys == keys.narrow(-2, 0, 1)) & keys.isfinite()
        other, second = other.transpose(-2, -1), alike.transpose(-2, -1)
    elif form is not None:
        (one, other), (first, second) = form.operands(one, other), form.operands(first, second)
    keys, _ = contracted_lines(one, other)
    zero = first.all(-2) | second.all(-1)
    keys, zero = torch.broadcast_tensors(collapse(keys), zero)
    roots, place = torch.unique(keys, return_inverse=True)
    every = torch.ones(roots.numel(), dtype=torch.int8)
    every = every.scatter_reduce(0, place.flatten(), zero.flatten().to(torch.int8), "amin")
    wanted = forest.find(mixer.inputs)
    spot = torch.searchsorted(roots, wanted.contiguous()).clamp(max=roots.numel() - 1)
    known = (roots[spot] == wanted) & (every[spot] == 1)
    return torch.where(known, 0.0, NAN)


def folded(mixer: Mixer, constant: Tensor) -> Tensor:
    """Return what constant inputs add to each output channel: sum_i c_i sum_taps W[k, i], shape (K,).

    Exact where every position reads every tap: without zero padding. NaN in `constant` counts as zero. Computed in
    the weight's precision, in float32 at least.
    """
    weight = mixer.weight.detach()
    dtype = weight.dtype if weight.dtype is torch.float64 else torch.float32
    known = constant.nan_to_num(nan=0.0).to(dtype).view(mixer.layout.groups, -1, 1)
    if not known.any():
        return torch.zeros(mixer.outputs.numel(), dtype=dtype)
    kernels = mixer.layout.kernels(weight)
    taps = kernels.shape[-1]
    # A product with ones sums the taps three times as fast as `sum`.
    sums = kernels.squeeze(-1) if taps == 1 else kernels @ kernels.new_ones(taps)
    return (sums.to(dtype) @ known).flatten()


def bias_of(call: MixCall) -> Tensor | None:
    """Return the bias added by a mixing call, or None."""
    if call.module is not None:
        return call.module.bias  # type: ignore[return-value]
    given = mixing.bias_of(call.node)
    if not isinstance(given, fx.Node):
        return None
    assert given.graph.owning_module is not None
    return operator.attrgetter(str(given.target))(given.graph.owning_module)
