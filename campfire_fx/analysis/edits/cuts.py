"""How tensors were cut: what a shrink notes of each, for whoever cuts something else alike (optimizer state)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from campfire_fx.analysis.compact import select
from campfire_fx.analysis.edits.columns import select_columns
from campfire_fx.analysis.edits.filter_groups import FilterGroups
from campfire_fx.analysis.reader import Reader
from campfire_fx.base.compat import is_erased


@dataclass(slots=True, eq=False)
class TensorCut:
    """How one tensor was cut: `slice` does the same to any tensor of the old shape (optimizer state).

    Attributes:
        old, new: the tensor before and after.
        keep: kept indices per axis, None for all; of a grouped weight only those of its taps.
        grouped: (groups kept, output indices per group, input indices per group) of a grouped weight.
        columns: of a gathered weight, the columns kept of those that are left.
        groups: of filters that were put in groups, which lie where, after all else.
    """

    old: Tensor
    new: Tensor
    keep: tuple[Tensor | None, ...]
    reader: Reader | None = None
    grouped: tuple[Tensor, Tensor, Tensor] | None = None
    columns: Tensor | None = None
    groups: FilterGroups | None = None

    def slice(self, state: Tensor) -> Tensor:
        """Cut another tensor of the old shape in the same way."""
        if self.grouped is not None and self.reader is not None:
            layout = self.reader.mixer.layout
            state = layout.weight(gather(layout.kernels(state), *self.grouped), state)
        state = select(state, self.keep)
        state = state.clone() if self.columns is None else select_columns(state, self.columns)
        return state if self.groups is None else self.groups.cut(state)

    @property
    def reshaped(self) -> bool:
        """Whether its axes are no longer those of the old tensor, with fewer places."""
        return self.columns is not None or self.groups is not None


@dataclass(slots=True, eq=False)
class Cuts:
    """Everything that was cut, by the id of the old tensor, and what was folded or merged, by weight id."""

    tensors: dict[int, TensorCut] = field(default_factory=dict)
    folds: dict[int, Tensor] = field(default_factory=dict)
    folded: dict[int, int] = field(default_factory=dict)
    merged: dict[int, int] = field(default_factory=dict)


def weight_now(cuts: Cuts, reader: Reader) -> Tensor:
    """Return the weight of a reader as far as it was cut until now."""
    cut = cuts.tensors.get(id(reader.mixer.weight))
    return reader.mixer.weight if cut is None else cut.new


def convolving(readers: Iterable[Reader], cuts: Cuts) -> Iterator[tuple[Reader, Tensor]]:
    """Yield each weight that has kernels, and is still called, as far as it was cut."""
    for reader in readers:
        weight = weight_now(cuts, reader)
        if weight.ndim > 2 and not (reader.mixer.virtual or all(is_erased(call.node) for call in reader.mixer.calls)):
            yield reader, weight


_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def like(old: Tensor, new: Tensor) -> Tensor:
    """Return a tensor as what an old one is: a parameter, trained or not, its channels last in memory or not."""
    layout = _CHANNELS_LAST.get(old.ndim) if new.ndim == old.ndim else None
    if layout is not None and not old.is_contiguous() and old.is_contiguous(memory_format=layout):
        new = new.contiguous(memory_format=layout)
    return nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new


def gather(kernels: Tensor, groups: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
    """Return the kernels (G, K/G, C/G, taps) of some groups, of each the outputs and inputs given."""
    kernels = kernels[groups]
    rows = torch.arange(groups.numel()).unsqueeze(1)
    kernels = kernels[rows, outputs]  # (groups, outputs, C/G, taps)
    return kernels.transpose(1, 2)[rows, inputs].transpose(1, 2)
