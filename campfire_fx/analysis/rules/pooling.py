"""Operations over space and over chosen dimensions: pools, resizing, reductions, normalisations."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx.analysis.labels import Labelled, lines, varies
from campfire_fx.analysis.rules.axes import dims, dims_at, last, space
from campfire_fx.analysis.rules.barriers import barrier
from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.kinds import Kind, Transfer
from campfire_fx.analysis.rules.pointwise import both_forms
from campfire_fx.analysis.rules.record import Call, OpRule, map_nested, meta, register
from campfire_fx.analysis.rules.shapes import shape_after


def over_space(call: Call, found: Found) -> Any:
    """Give each output position the label of its channel; the last dimensions, those resized, must be space."""
    value = call.get(0, "input")
    if not isinstance(value, Labelled) or len(call.labelled()) != 1:
        return barrier(call, found, "its input is not one activation")
    known = shape_after(call.module, value.shape) if call.module is not None else None
    if known is not None:
        return _resized(call, found, value, known)
    return map_nested(call.run(meta), lambda v: _resized(call, found, value, v.shape) if isinstance(v, Tensor) else v)


def _resized(call: Call, found: Found, value: Labelled, shape: torch.Size) -> Labelled:
    labels = found.forest.find(value.labels)
    dims = call.axes() or []
    if any(varies(labels, d) for d in dims) and not _join_along(found, labels, dims):
        found.pin(call.where(), "it mixes channels that lie along a resized dimension", value)
    for dim in dims:
        labels = labels.narrow(dim, 0, 1)
    return Labelled(found.forest.find(labels).expand(shape))


def _join_along(found: Found, labels: Tensor, dims: list[int]) -> bool:
    """Join what lies along some dimensions, where channels lie along others too (a table of positions, by channel).

    Returns whether that could be done.
    """
    others = [dim for dim in range(labels.ndim) if dim not in dims]
    if not any(varies(labels.narrow(dim, 0, 1), other) for dim in dims for other in others):
        return False
    for dim in dims:
        found.forest.join(labels, labels.narrow(dim, 0, 1))
    return True


def reduce(call: Call, found: Found) -> Any:
    """Join the labels that are reduced into one position (sums of stacked branches); keep the rest."""
    value, dims = call.get(0, "input"), call.axes()
    if not isinstance(value, Labelled) or dims is None:
        return barrier(call, found, "it reduces over every dimension, or its dimensions are computed")
    labels = found.forest.find(value.labels)
    if all(_is_stacked(labels, dim) for dim in dims):
        found.note("unstacked", call.node, True)
    for dim in dims:
        found.forest.join(labels, labels.narrow(dim, 0, 1))
    labels = found.forest.find(labels)
    for dim in dims:
        labels = labels.narrow(dim, 0, 1)
    output = call.run(meta)
    result = Labelled(labels if labels.ndim == _ndim(output) else _without(labels, dims))
    return map_nested(output, lambda v: result if isinstance(v, Tensor) else v)


def _is_stacked(labels: Tensor, dim: int) -> bool:
    """Whether channels of its own are at each position of a dimension; neighbours that share them may be space."""
    line = lines(labels, dim)
    return len(line) > 1 and not (line[1:] == line[:-1]).all(1).any()


def _ndim(output: Any) -> int:
    return (output if isinstance(output, Tensor) else output[0]).ndim


def _without(labels: Tensor, dims: list[int]) -> Tensor:
    for dim in sorted(dims, reverse=True):
        labels = labels.squeeze(dim)
    return labels


def normalise(call: Call, found: Found) -> Any:
    """Pass what is normalised over space; join what is normalised over stacked branches; else pin.

    Where channels lie along another dimension, each is normalised with its own twins alone: they live or die together.
    """
    value, dims = call.get(0, "input"), call.axes()
    if not isinstance(value, Labelled) or dims is None:
        return barrier(call, found, "its dimensions are not plain numbers")
    labels = found.forest.find(value.labels)
    if any(varies(labels, dim) for dim in dims) and not _join_along(found, labels, dims):
        found.pin(call.where(), "it normalises across channels", value)
    return Labelled(found.forest.find(value.labels))


def _counts_zeros(call: Call) -> bool:
    """Whether an average pool averages more than the input, so that a uniform channel becomes another."""
    padding = call.get(3, "padding", 0)
    padded = any(padding) if isinstance(padding, (tuple, list)) else bool(padding)
    plain = call.get(6, "divisor_override", None) is None
    return not plain or (padded and bool(call.get(5, "count_include_pad", True)))


def _sums_space(call: Call) -> bool:
    """Whether a sum is as long as the image is large, and not over stacked branches, whose number the model says."""
    return call.node not in call.structure.unstacked


def _pools(count: int, *names: str) -> list[Any]:
    """Return the classes and functions of pools over so many dimensions, by what their names begin with."""
    found = [getattr(nn, f"{name.title().replace('_', '').replace('Lp', 'LP')}{count}d") for name in names]
    return [*found, *dict.fromkeys(getattr(F, f"{name}{count}d") for name in names)]


for _n in (1, 2, 3):
    register(
        OpRule(Kind.SPACE, over_space, Transfer.KEEP, axes=last(_n)),
        *_pools(_n, "max_pool", "adaptive_avg_pool", "adaptive_max_pool"),
        getattr(torch, f"max_pool{_n}d"),
    )
    register(OpRule(Kind.SPACE, over_space, Transfer.KEEP, axes=last(_n), pads=_counts_zeros), *_pools(_n, "avg_pool"))
    register(OpRule(Kind.SPACE, over_space, Transfer.KEEP, axes=last(_n), pads=True), *_pools(_n, "lp_pool"))
register(OpRule(Kind.SPACE, over_space, Transfer.KEEP, axes=space), nn.Upsample, F.interpolate, F.upsample)
register(OpRule(Kind.SPACE, over_space, Transfer.KEEP, axes=last(2)), nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d)
register(
    OpRule(Kind.REDUCE, reduce, Transfer.KEEP, axes=dims_at(1)), *both_forms(("mean", "amax", "amin", "max", "min"))
)
register(OpRule(Kind.REDUCE, reduce, Transfer.KEEP, axes=dims_at(1), pads=_sums_space), *both_forms(("sum",)))
register(
    OpRule(Kind.REDUCE, reduce, Transfer.TAINT, axes=dims_at(1)),
    *both_forms(("var", "std", "var_mean", "std_mean", "logsumexp", "prod", "median", "nansum", "nanmean")),
    *both_forms(("argmax", "argmin", "any", "all", "count_nonzero")),
)
_VECTOR_NORMS = (torch.linalg.norm, torch.linalg.vector_norm)
register(OpRule(Kind.REDUCE, reduce, Transfer.TAINT, axes=dims_at(2)), *both_forms(("norm",)), *_VECTOR_NORMS)
register(
    OpRule(Kind.NORMALISE, normalise, Transfer.TAINT, axes=dims_at(1)),
    *(nn.Softmax, nn.LogSoftmax, nn.Softmin, F.softmax, F.log_softmax, F.softmin),
    *both_forms(("softmax", "log_softmax", "cumsum", "cumprod")),
)
register(OpRule(Kind.NORMALISE, normalise, Transfer.TAINT, axes=dims_at(2, 1)), F.normalize)
register(OpRule(Kind.NORMALISE, normalise, Transfer.TAINT, axes=dims(1)), nn.LocalResponseNorm)
register(OpRule(Kind.NORMALISE, normalise, Transfer.TAINT, axes=dims(-3)), nn.Softmax2d)
