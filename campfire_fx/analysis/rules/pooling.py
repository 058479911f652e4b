"""Operations over space and over chosen dimensions: pools, resizing, reductions, normalisations."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx.analysis.labels import Labelled, varies
from campfire_fx.analysis.rules.barriers import barrier
from campfire_fx.analysis.rules.pointwise import both_forms, join_all
from campfire_fx.analysis.rules.record import Call, Constant, Rule, map_nested, meta, register
from campfire_fx.analysis.shapes import shape_after


def over_space(call: Call) -> Any:
    """Give each output position the label of its channel; the last dimensions, those resized, must be space."""
    value = call.get(0, "input")
    if not isinstance(value, Labelled) or len(call.labelled()) != 1:
        return barrier(call, "its input is not one activation")
    known = shape_after(call.module, value.shape) if call.module is not None else None
    if known is not None:
        return _resized(call, value, known)
    return map_nested(call.run(meta), lambda v: _resized(call, value, v.shape) if isinstance(v, Tensor) else v)


def _resized(call: Call, value: Labelled, shape: torch.Size) -> Labelled:
    labels = call.structure.forest.find(value.labels)
    dims = [d for d in range(labels.ndim) if d >= labels.ndim - _space(call, labels.ndim)]
    if any(varies(labels, d) for d in dims) and not _join_along(call, labels, dims):
        call.structure.pin(call.where(), "it mixes channels that lie along a resized dimension", value)
    for dim in dims:
        labels = labels.narrow(dim, 0, 1)
    return Labelled(call.structure.forest.find(labels).expand(shape))


def _join_along(call: Call, labels: Tensor, dims: list[int]) -> bool:
    """Join what lies along some dimensions, where channels lie along others too (a table of positions, by channel).

    Returns whether that could be done.
    """
    others = [dim for dim in range(labels.ndim) if dim not in dims]
    if not any(varies(labels.narrow(dim, 0, 1), other) for dim in dims for other in others):
        return False
    for dim in dims:
        call.structure.forest.join(labels, labels.narrow(dim, 0, 1))
    return True


def _space(call: Call, ndim: int) -> int:
    """Return how many trailing dimensions are space: told by the operation's name, or all but two (resizing)."""
    name = type(call.module).__name__ if call.module is not None else getattr(call.target, "__name__", "")
    digits = [int(c) for c, after in itertools.pairwise(name) if c in "123" and after == "d"]
    return digits[0] if digits else ndim - 2


def reduce(call: Call) -> Any:
    """Join the labels that are reduced into one position (sums of stacked branches); keep the rest."""
    if len(call.labelled()) > 1:  # the binary form of max and min
        return join_all(call, call.labelled())
    value, dims = call.get(0, "input"), _dims(call)
    if not isinstance(value, Labelled) or dims is None:
        return barrier(call, "it reduces over every dimension, or its dimensions are computed")
    labels = call.structure.forest.find(value.labels)
    if all(varies(labels, dim) for dim in dims):
        call.structure.unstacked.add(call.node)
    for dim in dims:
        call.structure.forest.join(labels, labels.narrow(dim, 0, 1))
    labels = call.structure.forest.find(labels)
    for dim in dims:
        labels = labels.narrow(dim, 0, 1)
    output = call.run(meta)
    result = Labelled(labels if labels.ndim == _ndim(output) else _without(labels, dims))
    return map_nested(output, lambda v: result if isinstance(v, Tensor) else v)


def _ndim(output: Any) -> int:
    return (output if isinstance(output, Tensor) else output[0]).ndim


def _without(labels: Tensor, dims: list[int]) -> Tensor:
    for dim in sorted(dims, reverse=True):
        labels = labels.squeeze(dim)
    return labels


_DIM_SECOND = ("normalize", "norm", "linalg_norm", "linalg_vector_norm")  # (input, p, dim)


def _dims(call: Call) -> list[int] | None:
    """Return the dimensions an operation works over, or None if they are not plain numbers."""
    value = call.get(0, "input")
    name = getattr(call.target, "__name__", call.target)
    if isinstance(call.module, nn.LocalResponseNorm):
        given: Any = 1
    elif isinstance(call.module, nn.Softmax2d):
        given = -3
    else:
        given = call.get(1 + (name in _DIM_SECOND), "dim", call.kwargs.get("axis", 1 if name == "normalize" else None))
    given = tuple(given) if isinstance(given, (tuple, list, range)) else (given,)
    if not given or not all(isinstance(d, int) for d in given) or not isinstance(value, Labelled):
        return None
    return [d % len(value.shape) for d in given]


def normalise(call: Call) -> Any:
    """Pass what is normalised over space; join what is normalised over stacked branches; else pin.

    Where channels lie along another dimension, each is normalised with its own twins alone: they live or die together.
    """
    value, dims = call.get(0, "input"), _dims(call)
    if not isinstance(value, Labelled) or dims is None:
        return barrier(call, "its dimensions are not plain numbers")
    structure = call.structure
    labels = structure.forest.find(value.labels)
    if any(varies(labels, dim) for dim in dims) and not _join_along(call, labels, dims):
        structure.pin(call.where(), "it normalises channels with one another", value)
    return Labelled(structure.forest.find(value.labels))


def _no_zeros_counted(call: Call) -> bool:
    """Whether an average pool averages nothing but the input, so that a uniform channel stays what it is."""
    padding = call.get(3, "padding", 0)
    padded = any(padding) if isinstance(padding, (tuple, list)) else bool(padding)
    plain = call.get(6, "divisor_override", None) is None
    return plain and (not padded or not call.get(5, "count_include_pad", True))


def _unstacks(call: Call) -> bool:
    """Whether a sum is over stacked branches: its length is written in the model, not given by the image."""
    return call.node in call.structure.unstacked


_KEEPING = [
    *(getattr(nn, f"{p}{n}d") for p in ("MaxPool", "AdaptiveAvgPool", "AdaptiveMaxPool") for n in (1, 2, 3)),
    *(getattr(F, f"{p}{n}d") for p in ("max_pool", "adaptive_avg_pool", "adaptive_max_pool") for n in (1, 2, 3)),
    *(nn.Upsample, nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d, F.interpolate, F.upsample),
    *(getattr(torch, name) for name in ("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_avg_pool1d")),
]
_PADDING = [
    *(getattr(nn, f"AvgPool{n}d") for n in (1, 2, 3)),
    *(getattr(F, f"avg_pool{n}d") for n in (1, 2, 3)),
]
_POWERS = [
    *(getattr(nn, f"LPPool{n}d") for n in (1, 2, 3)),
    *(getattr(F, f"lp_pool{n}d") for n in (1, 2, 3)),
]
register(Rule("over space", over_space, Constant.KEEP), *dict.fromkeys(_KEEPING))
register(Rule("over space", over_space, Constant.ZERO, keeps=_no_zeros_counted), *dict.fromkeys(_PADDING))
register(Rule("over space", over_space, Constant.ZERO), *dict.fromkeys(_POWERS))
register(Rule("reduce", reduce, Constant.KEEP), *both_forms(("mean", "amax", "amin", "max", "min")))
register(Rule("reduce", reduce, Constant.ZERO, keeps=_unstacks), *both_forms(("sum",)))
register(
    Rule("reduce", reduce, Constant.TAINT),
    *both_forms(("var", "std", "var_mean", "std_mean", "logsumexp", "norm", "prod", "median", "nansum", "nanmean")),
    *both_forms(("argmax", "argmin", "any", "all", "count_nonzero")),
    *(torch.linalg.norm, torch.linalg.vector_norm),
)
register(
    Rule("normalise", normalise, Constant.TAINT),
    *(
        nn.LocalResponseNorm,
        nn.Softmax,
        nn.LogSoftmax,
        nn.Softmin,
        nn.Softmax2d,
        F.softmax,
        F.log_softmax,
        F.softmin,
        F.normalize,
    ),
    *both_forms(("softmax", "log_softmax", "cumsum", "cumprod")),
)
