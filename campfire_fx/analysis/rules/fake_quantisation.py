"""Fake quantisation (torch.ao.quantization): each number is rounded by itself, by a scale that must not move."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.rules.barriers import barrier
from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.kinds import Kind, Transfer
from campfire_fx.analysis.rules.pointwise import pass_on
from campfire_fx.analysis.rules.record import Call, Held, OpRule, register
from campfire_fx.base.errors import ShrinkError


def observed(call: Call, found: Found) -> Any:
    """Pass labels on where the scale is one number, and stands still.

    Raises:
        ShrinkError: the observer is on, so that every call, in evaluation too, changes the scale.
    """
    switch = call.get(1, "observer_on")
    if isinstance(switch, Tensor) and bool(switch.any()):
        raise ShrinkError(
            f"Fake quantisation at {_place(call)}: its observer is on, so every call changes its scale. "
            "Call model.apply(torch.ao.quantization.disable_observer) before."
        )
    if call.get(11, "per_row_fake_quant", False):
        return barrier(call, found, "it has a scale for each channel")
    return rounded(call, found)


def _place(call: Call) -> str:
    """Name the module that holds the observer."""
    source = call.operand(1, "observer_on")
    path = str(source.target) if isinstance(source, fx.Node) and source.op == "get_attr" else call.node.name
    return path.removesuffix(".observer_enabled")


def rounded(call: Call, found: Found) -> Any:
    """Pass the labels of an activation on."""
    if not isinstance(call.get(0, "input"), Labelled):
        return barrier(call, found, "its input is not an activation")
    return pass_on(call, found)


def rounded_by_channel(call: Call, found: Found) -> Any:
    """Pass labels on; scales and zero points, one per channel, belong to the channels."""
    value, scale, axis = call.get(0, "input"), call.get(1, "scale"), call.get(3, "axis")
    if not isinstance(value, Labelled) or not isinstance(scale, Held) or not isinstance(axis, int):
        return barrier(call, found, "its input is not an activation, or its scales are computed")
    zero = call.get(2, "zero_point")
    zero = zero.tensor if isinstance(zero, Held) else zero
    found.owns(found.channels(value, axis), scale.tensor, zero)
    return value


register(OpRule(Kind.PASS, observed, Transfer.POINTWISE), torch.fused_moving_avg_obs_fake_quant)
register(OpRule(Kind.PASS, rounded, Transfer.POINTWISE), torch.fake_quantize_per_tensor_affine)
register(OpRule(Kind.PER_CHANNEL, rounded_by_channel, Transfer.POINTWISE), torch.fake_quantize_per_channel_affine)
