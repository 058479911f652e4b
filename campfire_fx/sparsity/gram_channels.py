"""Channels that go by a Gram matrix of what the layers that read them are given, gathered before masks move, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity.channels.coupling import Alive, CoupledLayer, Coupling, Floats
from campfire_fx.sparsity.channels.layers import coupling_of, living, with_coupling
from campfire_fx.sparsity.channels.scores import LAST, Evidence
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.coupled_channels import CoupledChannels
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.method import INPUTS

GRAM = "gram of "
"""What the memory of a training calls the Gram matrix of a reader, before its path: ((groups + 1)^2,)."""

Rank = Callable[[Floats], Floats]
"""From the matrix of a set's groups, (n, n), to their scores, (n,)."""


@dataclass(frozen=True, slots=True)
class GramChannels(CoupledChannels):
    """The base of methods that rank the groups of a set by one matrix, the sum over the layers that read them.

    Attributes:
        order: how groups are ranked: a key of `orders`.
    """

    gathers = INPUTS
    orders: ClassVar[dict[str, Rank]] = {}
    order: str = ""

    @property
    def goes_on_smaller(self) -> bool:
        """See `Method`: what was gathered is of the whole model."""
        return False

    def reads(self, layer: PrunedLayer, coupled: CoupledLayer) -> bool:
        """Return whether a layer is watched: one that mixes channels which can go."""
        del layer
        return not coupled.goes_whole and bool((coupled.inputs >= 0).any())

    def gram(self, layer: PrunedLayer, coupled: CoupledLayer, inputs: Tensor) -> Tensor:
        """Return the Gram matrix of a batch, (n + 1, n + 1) float64, with n groups and one row of another kind."""
        raise NotImplementedError

    def of_groups(self, whole: Floats) -> Floats:
        """Return the matrix by which groups are ranked, (n, n), from the Gram matrix of all batches."""
        return whole[:-1, :-1]

    def after(self, layer: PrunedLayer, coupled: CoupledLayer, coupling: Coupling, whole: Floats, alive: Alive) -> None:
        """Act on a reader when masks have moved; `whole`: its Gram matrix."""

    def begin(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Make room for the Gram matrices: see `Method`."""
        del now
        for layer, coupled in with_coupling(layers, coupling_of(layers)) if layers else ():
            if layer.state.reached is None and self.reads(layer, coupled):
                size = int(columns_of(coupled).max()) + 2
                layer.memory.setdefault(GRAM + coupled.path, torch.zeros(size**2, dtype=torch.float64))

    def watch(self, layer: PrunedLayer, inputs: Tensor) -> None:
        """Add what a reader is given to its Gram matrix: see `Method`."""
        (_, coupled), *_ = with_coupling([layer], coupling_of([layer]))
        if GRAM + coupled.path in layer.memory:
            known = layer.memory[GRAM + coupled.path]
            layer.memory[GRAM + coupled.path] = known + self.gram(layer, coupled, inputs).flatten().to(known)

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Mask the groups that go, once, and forget what was gathered: see `Method`."""
        coupling, moves = coupling_of(layers), any(layer.rises for layer in layers)
        CoupledChannels.epoch(self, layers, now)
        if moves:
            alive = living(((coupled, layer.module) for layer, coupled in with_coupling(layers, coupling)), coupling)
            for layer, coupled in with_coupling(layers, coupling):
                if (known := layer.memory.pop(GRAM + coupled.path, None)) is not None:
                    self.after(layer, coupled, coupling, square(known), alive)

    def scores(self, evidence: Evidence, layers: Sequence[PrunedLayer]) -> Floats:
        """Return how much each group matters, (groups,); what no reader was seen of goes last."""
        coupling, found = evidence.coupling, np.full(evidence.coupling.groups, LAST)
        totals = [np.zeros((one.size, one.size)) for one in coupling.sets]
        for coupled in (one for _, one in with_coupling(layers, coupling) if GRAM + one.path in layers[0].memory):
            seen = self.of_groups(square(layers[0].memory[GRAM + coupled.path]))
            numbers = np.unique(coupled.inputs[coupled.inputs >= 0])
            for one, total in zip(coupling.sets, totals, strict=True):
                inside = (numbers >= one.start) & (numbers < one.stop)
                places = numbers[inside] - one.start
                total[np.ix_(places, places)] += seen[np.ix_(inside, inside)]
        if not any(total.any() for total in totals):
            raise RegimeError(
                f"channels by {self.name}: nothing was seen of the data. "
                "Call gather(loss_fn, loader) before the era begins, or finalize() after it."
            )
        for one, total in zip(coupling.sets, totals, strict=True):
            if total.any():
                found[one.start : one.stop] = self.orders[self.order](total)
        return found


def columns_of(coupled: CoupledLayer) -> NDArray[np.int64]:
    """Return for each input channel the place of its group among those that the layer reads; of no group: -1."""
    numbers = np.unique(coupled.inputs[coupled.inputs >= 0])
    return np.where(coupled.inputs >= 0, np.searchsorted(numbers, coupled.inputs), -1).reshape(-1)


def square(flat: Tensor) -> Floats:
    """Return a matrix from how it is remembered."""
    return flat.view(round(flat.numel() ** 0.5), -1).cpu().numpy()
