"""Compacting: what a tensor of labels becomes when dead channels are gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from campfire_fx.analysis.labels import Labelled, collapse
from campfire_fx.analysis.liveness import Liveness
from campfire_fx.analysis.rules.record import map_nested
from campfire_fx.analysis.rules.structure import Structure


class Vanished:
    """Stands for a tensor of which nothing is left."""


@dataclass(frozen=True, slots=True, eq=False)
class Uneven(Exception):
    """Dead labels that cannot be cut out, because what is left would not be rectangular; they must stay."""

    labels: Tensor


def kept_indices(labels: Tensor, live: Liveness) -> tuple[Tensor | None, ...]:
    """Return, per dimension, the indices that stay (int64, sorted), or None where all do.

    Raises:
        Uneven: cutting whole indices cannot remove exactly the dead labels.
    """
    keep = live.keeps(labels)
    result: list[Tensor | None] = [None] * labels.ndim
    if keep.all():
        return tuple(result)
    along = [dim for dim, size in enumerate(keep.shape) if size > 1]
    if len(along) == 1:
        result[along[0]] = keep.flatten().nonzero().flatten()
        return tuple(result)
    result.clear()
    for dim in range(keep.ndim):
        line = keep.movedim(dim, 0).reshape(keep.shape[dim], -1).any(1)
        result.append(None if line.all() else line.nonzero().flatten())
    if not select(keep, result).all():
        dead = live.roots_of(labels)[~keep]
        raise Uneven(dead.unique())
    return tuple(result)


def kept_line(labels: Tensor, live: Liveness, dim: int) -> Tensor:
    """Return which indices along one dimension stay: bool (size,)."""
    line = torch.zeros(labels.shape[dim], dtype=torch.bool)
    indices = kept_indices(labels, live)[dim]
    line[slice(None) if indices is None else indices] = True
    return line


def shape_after_removal(structure: Structure, live: Liveness, tensor: Tensor) -> torch.Size:
    """Return the shape that a parameter or buffer has when dead channels are gone."""
    for reader in live.readers:
        mixer = reader.mixer
        if mixer.weight is tensor:
            inputs, outputs = live.alive[reader.inputs], live.alive[reader.outputs]
            stays = inputs.any(1) | outputs.any(1)
            shape = list(tensor.shape)
            per_group = [int(side[stays].sum(1).max()) if stays.any() else 0 for side in (inputs, outputs)]
            first, second = (per_group[::-1], per_group)[mixer.layout.out_axis > mixer.layout.in_axis]
            both = sorted((mixer.layout.out_axis, mixer.layout.in_axis))
            shape[both[0]], shape[both[1]] = int(stays.sum()) * first, second
            return torch.Size(shape)
    labels = structure.labels_of(tensor)
    if labels is None:
        return tensor.shape
    keep = kept_indices(labels, live)
    return torch.Size(s if k is None else k.numel() for s, k in zip(tensor.shape, keep, strict=True))


def select(tensor: Tensor, keep: tuple[Tensor | None, ...] | list[Tensor | None]) -> Tensor:
    """Return a tensor with only the kept indices of each dimension."""
    for dim, indices in enumerate(keep):
        if indices is not None:
            tensor = tensor.index_select(dim, indices.to(tensor.device))
    return tensor


def compact(labels: Tensor, live: Liveness, *, even: bool = False) -> Tensor:
    """Return roots of labels without the dead ones; float64, stretched where `labels` is.

    Args:
        labels: of a tensor.
        live: what stays.
        even: rows (heads) may lose different channels, where as many are left of each.

    Raises:
        Uneven: what is left would not be rectangular.
    """
    small = collapse(labels)
    roots = live.roots_of(small)
    cut = cut_like(roots, small, live) if even else select(roots, kept_indices(small, live))
    shape = [
        full if few == 1 and full > 1 else now
        for full, few, now in zip(labels.shape, small.shape, cut.shape, strict=True)
    ]
    return cut.expand([0 if cut.numel() == 0 and 0 in cut.shape and s == 0 else s for s in shape])


def cut_like(value: Tensor, labels: Tensor, live: Liveness) -> Tensor:
    """Return a tensor without the dead channels of its labels, of the same shape: whole indices, or even rows.

    Raises:
        Uneven: what is left would not be rectangular.
    """
    try:
        return select(value, kept_indices(labels, live))
    except Uneven:
        keep = live.keeps(labels)
        dim = _even_rows(keep)
        if dim is None:
            raise
    keep, rows = keep.expand(value.shape).movedim(dim, -1), value.movedim(dim, -1)
    return rows[keep].view(*rows.shape[:-1], -1).movedim(-1, dim)


def _even_rows(keep: Tensor) -> int | None:
    """Return the last dimension along which as many stay of each row (head), or None."""
    for dim in reversed(range(keep.ndim)):
        counts = keep.sum(dim)
        if keep.shape[dim] > 1 and bool((counts == counts.flatten()[0]).all()):
            return dim
    return None


def compact_value(value: Any, live: Liveness, *, even: bool = False) -> Any:
    """Compact every labelled tensor in a value, however nested; one of which nothing is left is `Vanished`."""

    def one(item: Any) -> Any:
        if not isinstance(item, Labelled):
            return item
        if item.labels.numel() and not live.keeps(item.labels).any():
            return Vanished()
        return Labelled(compact(item.labels, live, even=even))

    return map_nested(value, one)
