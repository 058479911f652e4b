"""Normalisation of channels with one another: LayerNorm, and GroupNorm over groups of channels and over space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx.analysis.labels import Labelled, varies
from campfire_fx.analysis.rules.barriers import barrier
from campfire_fx.analysis.rules.channelwise import channel_dim, per_channel
from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.kinds import Kind, Transfer
from campfire_fx.analysis.rules.record import Call, Held, OpRule, register


@dataclass(frozen=True, slots=True, eq=False)
class NormArguments:
    """One call of a norm, whatever form it was written in: y = weight * (x - mean) / sqrt(var + eps) + bias.

    Attributes:
        groups: of channels, each normalised by itself; 1 for LayerNorm.
        last: it normalises over so many last dimensions (LayerNorm); 0: over all but the first (GroupNorm).
        weight, bias: of the channels (LayerNorm: of all that is normalised), or None.
        eps: what is added to the variance.
    """

    groups: int
    last: int
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def dims(self, ndim: int) -> range:
        """Return the dimensions that are normalised over."""
        return range(ndim - self.last if self.last else 1, ndim)


def is_layer_norm(call: Call) -> bool:
    """Whether a norm's scale lies along the last dimensions (LayerNorm), and not along the second (GroupNorm)."""
    return isinstance(call.module, nn.LayerNorm) or call.target in (F.layer_norm, torch.layer_norm)


def read_norm(call: Call) -> NormArguments | None:
    """Return what a call of a norm says, or None where that is computed."""
    layer = is_layer_norm(call)
    name = "normalized_shape" if layer else "num_groups"
    first, weight, bias = call.get(1, name), call.get(2, "weight"), call.get(3, "bias")
    weight, bias = (v.tensor if isinstance(v, Held) else v for v in (weight, bias))
    eps = call.get(4, "eps", 1e-5)
    plain = all(v is None or isinstance(v, Tensor) for v in (weight, bias)) and isinstance(eps, (int, float))
    if layer and plain and isinstance(first, (tuple, list)) and all(isinstance(size, int) for size in first):
        return NormArguments(1, len(first), weight, bias, float(eps))
    if not layer and plain and isinstance(first, int):
        return NormArguments(first, 0, weight, bias, float(eps))
    return None


def normalise_channels(call: Call, found: Found) -> Any:
    """Let channels that are normalised together go together, group by group; pin them where there is but one group."""
    value, norm = call.get(0, "input"), read_norm(call)
    if not isinstance(value, Labelled) or norm is None or len(call.labelled()) != 1:
        return barrier(call, found, "its scale or its sizes are computed")
    labels = found.forest.find(value.labels)
    if norm.groups > 1 and not any(varies(labels, dim) for dim in range(2, labels.ndim)):
        return _by_group(call, found, value, norm.groups)
    if any(varies(labels, dim) for dim in norm.dims(labels.ndim)):
        found.pin(call.where(), "it normalises across channels", value)
    for held in call.held():
        found.pin_tensor(held.tensor)
    return Labelled(found.forest.find(value.labels))


def _by_group(call: Call, found: Found, value: Labelled, count: int) -> Any:
    """Groups do not see one another: each can go, but only with all of its channels."""
    channels = found.channels(value, 1)
    groups = channels.view(count, -1)
    found.note("wholes", call.node, groups)
    known = found.structure.sizes.get((id(call.module), "num_groups"))
    if known is not None and known[2].numel() == count:  # called before, perhaps without a scale that joins the calls
        found.forest.join(groups[:, 0], known[2])
    found.counts(call.module, "num_groups", groups[:, 0])
    found.counts(call.module, "num_channels", channels)
    return per_channel(call, found)


NORMS = (nn.LayerNorm, F.layer_norm, torch.layer_norm, nn.GroupNorm, F.group_norm, torch.group_norm)

_WEIGHT_SECOND = (torch.batch_norm, torch.instance_norm)  # else behind the running statistics


def affine_of(call: Call) -> tuple[Any, Any, list[int]]:
    """Return the scale and the shift of a normalisation, or None in their place, and the dimensions they lie along."""
    ndim = len(call.get(0, "input").shape)
    if call.target in NORMS:
        norm = read_norm(call)
        dims = [1] if norm is None or not norm.last else list(norm.dims(ndim))
        return (None, None, dims) if norm is None else (norm.weight, norm.bias, dims)
    dims = [channel_dim(call, ndim)]
    if call.module is not None:
        return call.module.weight, call.module.bias, dims
    first = 1 if call.target in _WEIGHT_SECOND else 3
    scale, shift = (getattr(call.get(i, n), "tensor", None) for i, n in ((first, "weight"), (first + 1, "bias")))
    return scale, shift, dims


def _axes(call: Call) -> list[int] | None:
    norm, value = read_norm(call), call.get(0, "input")
    return None if norm is None or not isinstance(value, Labelled) else list(norm.dims(len(value.shape)))


register(OpRule(Kind.NORMALISE, normalise_channels, Transfer.AFFINE, axes=_axes), *NORMS)
