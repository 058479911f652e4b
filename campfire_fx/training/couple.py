"""The coupled channels of a model that trains sparse, what they cost, and whether the target can be met."""

from __future__ import annotations

from dataclasses import replace

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.coupled import find_coupling
from campfire_fx.base.errors import RegimeError
from campfire_fx.cost.measure import macs
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.sparsity.assignment import Assignment
from campfire_fx.sparsity.channel_targets import costs_of, require_possible
from campfire_fx.sparsity.coupling import Coupling
from campfire_fx.sparsity.regimes.channel import CoupledChannels, least_of


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
    others = {a.name: f"it is pruned by {a.method.name}" for a in assignments if not a.method.couples}
    module = captured.module
    masked = {id(m.weight): path for path, m in reversed(list(module.named_modules())) if isinstance(m, MaskedLayer)}
    coupling = find_coupling(captured, masked, others)
    if not coupling.sets:
        raise RegimeError(_nothing(coupling))
    if dead_norm == "keep":
        coupling = replace(coupling, vectors=tuple(replace(vector, zeroed=False) for vector in coupling.vectors))
    coupling = replace(coupling, other_macs=_other_macs(captured, coupling))
    coupling = replace(coupling, dense=costs_of(coupling))
    method = own[0].method
    if isinstance(method, CoupledChannels):
        least = least_of(coupling, {a.name: a.at_least for a in own}, method.at_least)
        require_possible(method.target, coupling, least)
    return coupling


def _other_macs(captured: Captured, coupling: Coupling) -> float:
    """Return the multiply-accumulates that are in no layer of the coupling: products of activations, for one."""
    total = macs(captured.module, captured.args, captured.kwargs).total
    return total - sum(layer.macs * layer.outputs.size * layer.inputs.shape[1] for layer in coupling.layers)


def _nothing(coupling: Coupling) -> str:
    standing = sorted(coupling.stays, key=lambda stays: -stays.channels)[:3]
    why = "".join(f" {stays.channels} channels stay at {stays.where}: {stays.reason}." for stays in standing)
    return f"channels: none of this model can go.{why} Use a regime that removes weights, as 'combined'."
