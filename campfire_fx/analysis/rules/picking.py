"""Operations that data steers: places found in activations, values taken from places that activations give.

Which place is taken says nothing of channels, as long as those lie along another dimension. Else they are pinned.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from campfire_fx.analysis.labels import Labelled, varies
from campfire_fx.analysis.rules.axes import dims_at, space
from campfire_fx.analysis.rules.barriers import barrier
from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.kinds import Kind, Transfer, Writes
from campfire_fx.analysis.rules.pointwise import both_forms
from campfire_fx.analysis.rules.record import Call, OpRule, map_nested, meta, register
from campfire_fx.analysis.rules.structure import fixed


def order(call: Call, found: Found) -> Any:
    """Give what is sorted, or the best of it, the labels of its channels; pin channels that are compared."""
    value, axes = call.get(0, "input"), call.axes()
    if not isinstance(value, Labelled) or axes is None:
        return barrier(call, found, "its dimension is no plain number")
    (dim,) = axes
    if varies(found.forest.find(value.labels), dim):
        found.pin(call.where(), "it compares these channels", value)
    labels = found.forest.find(value.labels).narrow(dim, 0, 1)

    def placed(v: Any) -> Any:
        if not isinstance(v, Tensor):
            return v
        return Labelled((labels if v.ndim == labels.ndim else labels.squeeze(dim)).expand(v.shape))

    return map_nested(call.run(meta), placed)


def pick_at(call: Call, found: Found) -> Labelled | None:
    """Return the labels of what is taken at places that activations give; None where channels lie along them.

    Also where the places may be a mask: then data decides how many there are.
    """
    value = call.get(0, "input")
    index = _index(call)
    if not isinstance(value, Labelled) or index is None:
        return None
    labels = found.forest.find(value.labels)
    at: list[Any] = []
    for dim, one in enumerate(index):
        if varies(labels, dim) and not (isinstance(one, slice) and one == slice(None)):
            return None
        at.append(torch.zeros(one.shape, dtype=torch.long) if isinstance(one, Labelled) else one)
    found.pin(call.where(), "its values are places", *(one for one in index if isinstance(one, Labelled)))
    found.note("settled", call.node, PICK)
    return found.stretch(labels[tuple(at)])


def _index(call: Call) -> tuple[Any, ...] | None:
    """Return an index, one entry per dimension from the first, if its activations are whole numbers."""
    value = call.get(0, "input")
    if call.target is operator.getitem:
        given = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
        nodes: Any = call.node.args[1]
        nodes = nodes if isinstance(nodes, tuple) else (nodes,)
    elif call.target in (torch.index_select, "index_select") and isinstance(value, Labelled):
        dim, places = call.get(1, "dim"), call.get(2, "index")
        if not isinstance(dim, int) or not isinstance(places, Labelled):
            return None
        before = (slice(None),) * (dim % len(value.shape))
        given, nodes = (*before, places), (*before, call.operand(2, "index"))
    else:
        return None
    if not all(isinstance(one, (Labelled, Tensor, int, slice)) for one in given):
        return None  # None and ... stand for other numbers of dimensions
    for one, node in zip(given, nodes, strict=True):
        dtype = call.example(node).dtype if isinstance(one, Labelled) else getattr(one, "dtype", None)
        if dtype is not None and (dtype.is_floating_point or dtype is torch.bool):
            return None
    return given


def sample(call: Call, found: Found) -> Any:
    """Give each place of a resampled image the labels of its channels; the grid's two or three numbers are places."""
    value, grid = call.get(0, "input"), call.get(1, "grid")
    if not isinstance(value, Labelled) or not isinstance(grid, (Labelled, Tensor)):
        return barrier(call, found, "its input is not an activation")
    if isinstance(grid, Labelled):
        found.pin(call.where(), "its values are places", grid)
    labels = found.forest.find(value.labels)
    if any(varies(labels, dim) for dim in space(call)):
        found.pin(call.where(), "it mixes channels that lie along a resampled dimension", value)
        labels = found.forest.find(labels)
    for dim in space(call):
        labels = labels.narrow(dim, 0, 1)
    return Labelled(labels.expand(*value.shape[:2], *grid.shape[1:-1]))


def grid(call: Call, found: Found) -> Any:
    """Make places from a few numbers, which are read one by one."""
    found.pin(call.where(), "its values are places", *call.labelled())
    return fixed(call.run(meta).shape)


PICK = OpRule(Kind.PICK, order, Transfer.KEEP)
# A list has a method of that name, which does write.
register(replace(PICK, axes=dims_at(1, -1), writes=Writes.NOTHING), *both_forms(("sort",)))
register(replace(PICK, axes=dims_at(1, -1)), *both_forms(("mode", "cummax", "cummin")))
register(replace(PICK, axes=dims_at(2, -1)), *both_forms(("topk", "kthvalue")))
register(OpRule(Kind.PICK, order, Transfer.TAINT, axes=dims_at(1, -1)), *both_forms(("argsort",)))
register(OpRule(Kind.SAMPLE, sample, Transfer.KEEP, axes=space, pads=True), F.grid_sample, torch.grid_sampler)
register(OpRule(Kind.GRID, grid, Transfer.TAINT, spare=1), F.affine_grid)
