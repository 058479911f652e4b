"""Operations with one parameter per channel: normalisation over space, PReLU. Channels pass; parameters follow them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.rules.barriers import barrier
from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.kinds import Kind, Transfer
from campfire_fx.analysis.rules.record import Call, Held, OpRule, register
from campfire_fx.base.compat import INSTANCE_NORM, unbatched_dims

_VECTORS = ("weight", "bias", "running_mean", "running_var")


def per_channel(call: Call, found: Found) -> Any:
    """Pass labels on; parameters and buffers of shape (C,) belong to the channels of dimension 1 (or 0, unbatched)."""
    value, module = call.get(0, "input"), call.module
    if not isinstance(value, Labelled):
        return barrier(call, found, "its input is not an activation")
    channels = found.channels(value, channel_dim(call, len(value.shape)))
    if module is not None:
        found.owns(channels, *(getattr(module, name, None) for name in _VECTORS))
        found.counts(module, "num_features", channels)
    elif not _own_held(call, found, channels):
        return barrier(call, found, "its statistics or weights are computed")
    return value


def channel_dim(call: Call, ndim: int) -> int:
    """Return where channels lie: normalisation of single instances also takes inputs without a batch."""
    if isinstance(call.module, INSTANCE_NORM):
        return ndim - unbatched_dims(call.module)
    return 1


def _own_held(call: Call, found: Found, channels: torch.Tensor) -> bool:
    if len(call.labelled()) > 1:
        return False
    found.owns(channels, *(held.tensor for held in call.held()))
    return True


def prelu(call: Call, found: Found) -> Any:
    """Pass labels on; the slope has one entry per channel of dimension 1, or one for all."""
    value = call.get(0, "input")
    slope = call.module.weight if isinstance(call.module, nn.PReLU) else call.get(1, "weight")
    slope = slope.tensor if isinstance(slope, Held) else slope
    if not isinstance(value, Labelled) or not isinstance(slope, torch.Tensor):
        return barrier(call, found, "its slope is computed")
    if slope.numel() > 1:
        channels = found.channels(value, 1)
        found.owns(channels, slope)
        found.counts(call.module, "num_parameters", channels)
    return value


_FLAGS = ("training", "momentum", "eps")

BATCH_NORMS: dict[Any, tuple[str, ...]] = {
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm), ("input",)),
    F.batch_norm: ("input", "running_mean", "running_var", "weight", "bias", *_FLAGS),
    torch.batch_norm: ("input", "weight", "bias", "running_mean", "running_var", *_FLAGS),
}
"""What scales and shifts channels by running statistics in evaluation, with the names of what it is called with."""

register(
    OpRule(Kind.PER_CHANNEL, per_channel, Transfer.AFFINE),
    *BATCH_NORMS,
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, F.instance_norm, torch.instance_norm),
)
register(OpRule(Kind.PER_CHANNEL, prelu, Transfer.EXECUTE), nn.PReLU, F.prelu, torch.prelu)
