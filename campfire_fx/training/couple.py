"""The coupled channels of a model, what they cost, and whether the target of a sparse training can be met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.coupled import find_coupling
from campfire_fx.base.copies import private_copy
from campfire_fx.base.errors import RegimeError
from campfire_fx.capture import trace
from campfire_fx.cost.latency_layers import TimesOfLayers
from campfire_fx.cost.latency_table import latency_table
from campfire_fx.cost.measure import macs
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.shrink.slim import SlimModel
from campfire_fx.sparsity.assignment import Assignment
from campfire_fx.sparsity.channels.coupling import Coupling, Groups
from campfire_fx.sparsity.channels.targets import costs_of, require_possible
from campfire_fx.sparsity.coupled_channels import CoupledChannels, least_of
from campfire_fx.training.masked_copy import masked_copy


def couple(captured: Captured, assignments: tuple[Assignment, ...], *, dead_norm: str) -> Coupling:
    """Find the coupled channels of a captured model whose layers hold masks.

    Args:
        captured: the model.
        assignments: what its layers are asked for; the channels of those that another method prunes stay.
        dead_norm: "zero" or "keep", as `sparsify` takes it.

    Raises:
        RegimeError: no channel can go, the target cannot be met, or layers are asked for different eras.
    """
    own = [a for a in assignments if a.method.couples]
    if any(a.method != own[0].method or a.schedule != own[0].schedule for a in own):
        raise RegimeError(
            "overrides: coupled channels have one era, exponent and regime for all layers. Give no others."
        )
    coupling = _find(captured, assignments)
    if not coupling.sets:
        raise RegimeError(
            f"channels: none of this model can go.{coupling.standing} Use a regime that removes weights, as 'combined'."
        )
    if dead_norm == "keep":
        coupling = replace(coupling, vectors=tuple(replace(vector, zeroed=False) for vector in coupling.vectors))
    coupling = _counted(captured, coupling)
    method = own[0].method
    if isinstance(method, CoupledChannels) and method.target.timed:
        coupling = _timed(captured, coupling)
    coupling = replace(coupling, dense=costs_of(coupling))
    if isinstance(method, CoupledChannels):
        least = least_of(coupling, {a.name: a.at_least for a in own}, method.at_least)
        require_possible(method.target, coupling, least, method.round_to)
    return coupling


@torch.inference_mode(mode=False)  # weights are set to zero for a while
def coupled_channels(model: nn.Module, example_inputs: Any = None, *, examples: list[Any] | None = None) -> Coupling:
    """Return which channels of a model can only be removed together, what writes and reads them, and which stay.

    The regime "channel" removes these groups. What they cost, set by set: `campfire_fx.sparsity.set_costs`.

    Args:
        model: any dense model; it is not touched.
        example_inputs: a tensor, a tuple of positional or a dict of keyword arguments; guessed where None. Its size is
            that at which multiply-accumulates are counted.
        examples: a list of such inputs, in the place of `example_inputs`, where the model's code takes different ways.

    Raises:
        CaptureError: no part of the model can be captured.
        RegimeError: the model is sparse: its layers hold masks.
    """
    captured, _ = masked_copy("coupled_channels", model, example_inputs, examples)
    coupling = _find(captured, ())
    coupling = _counted(captured, coupling)
    return replace(coupling, dense=costs_of(coupling))


_CARRIED = ("other_macs", "other_ms", "dense")


def couple_again(slim: SlimModel, before: Coupling, assignments: Sequence[Assignment]) -> tuple[Coupling, Groups]:
    """Find the coupled channels of a model that was made smaller, as parts of those that it had before.

    Returns:
        The coupling, whose costs and floors count from the dense model; and for each group the number that it had
        before, (groups,), or -1 where that is not known.
    """
    given = [kwargs or args for args, kwargs in slim.examples]
    coupling = _find(trace(private_copy(slim), examples=given, compiled=False), assignments)
    numbers = _numbers_before(coupling, before, slim.plan.keep)
    sizes = np.array([one.whole for one in before.sets])[before.set_of]
    known = [numbers[one.start : one.stop] for one in coupling.sets]
    wholes = [int(sizes[own[own >= 0][0]]) if (own >= 0).any() else own.size for own in known]
    sets = tuple(replace(one, whole=whole) for one, whole in zip(coupling.sets, wholes, strict=True))
    zeroed = {vector.name: vector.zeroed for vector in before.vectors}
    vectors = tuple(replace(v, zeroed=zeroed.get(v.name, v.zeroed)) for v in coupling.vectors)
    macs_before = {layer.path: layer.macs for layer in before.layers}  # of a kernel: the same at any width
    layers = tuple(replace(layer, macs=macs_before.get(layer.path, layer.macs)) for layer in coupling.layers)
    same: dict[str, Any] = {name: getattr(before, name) for name in _CARRIED}
    if before.times is not None:
        same["times"] = before.times.for_paths([layer.path for layer in coupling.layers])
    return replace(coupling, sets=sets, layers=layers, vectors=vectors, **same), numbers


def _numbers_before(coupling: Coupling, before: Coupling, keep: Mapping[str, Sequence[Sequence[int] | None]]) -> Groups:
    numbers = np.full(coupling.groups + 1, -1, dtype=np.int64)
    large = {layer.path: layer for layer in before.layers}
    for layer in (layer for layer in coupling.layers if layer.groups == 1 and layer.path in large):
        axes = keep.get(f"{layer.path}.weight", (None, None))
        ports = (layer.outputs, large[layer.path].outputs), (layer.inputs[0], large[layer.path].inputs[0])
        for (now, was), kept in zip(ports, axes[1::-1] if layer.out_axis else axes, strict=False):
            numbers[now] = was if kept is None else was[list(kept)]
    return numbers[:-1]


def _find(captured: Captured, assignments: Sequence[Assignment]) -> Coupling:
    """Find the coupled channels; those of layers that another method prunes stay."""
    others = {a.name: f"it is pruned by {a.method.name}" for a in assignments if not a.method.couples}
    modules = reversed(list(captured.module.named_modules()))
    masked = {id(module.weight): path for path, module in modules if isinstance(module, MaskedLayer)}
    return find_coupling(captured, masked, others)


def _counted(captured: Captured, coupling: Coupling) -> Coupling:
    """Count the multiply-accumulates of the whole model, and those that are in no layer: products of activations.

    A layer that is called for every region of an image, say, is called less often by the graph of its part than by the
    whole model: what the model multiplies counts.
    """
    whole = macs(captured.module, captured.args, captured.kwargs)
    sizes = [layer.outputs.size * layer.inputs.shape[1] for layer in coupling.layers]
    layers = tuple(
        replace(layer, macs=max(layer.macs, whole.per_layer.get(layer.path, 0) / size))
        for layer, size in zip(coupling.layers, sizes, strict=True)
    )
    inside = sum(layer.macs * size for layer, size in zip(layers, sizes, strict=True))
    return replace(coupling, layers=layers, other_macs=whole.total - inside)


def _timed(captured: Captured, coupling: Coupling) -> Coupling:
    """Measure the layers over their widths, on the example and on the machine at hand."""
    from campfire_fx.report.progress import progress  # slow to load

    with progress("Measuring the layers"):
        table = latency_table(captured.module, captured.args, captured.kwargs)
    times = TimesOfLayers(table, tuple(layer.path for layer in coupling.layers))
    full = np.array([layer.widths(np.ones(coupling.groups, dtype=np.bool_)) for layer in coupling.layers])
    known = times(full[:, 0].astype(np.float64), full[:, 1].astype(np.float64)).sum()
    return replace(coupling, times=times, other_ms=table.dense_ms - float(known))
