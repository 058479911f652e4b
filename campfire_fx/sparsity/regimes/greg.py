"""GReg-1 (Wang et al. 2021, arXiv 2012.09243): what is to go is drawn to zero by an L2 penalty that grows and grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from campfire_fx.sparsity.channels.coupling import Alive, Coupling
from campfire_fx.sparsity.channels.layers import coupling_of
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.coupled_channels import CoupledChannels, channels
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.penalty import RIDGE, VALUE, check_strength, pull, worth
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.schedule import Stages
from campfire_fx.sparsity.slices import CoupledGroups

SINCE = "drawn since"
"""What is remembered of each group: the step since which it is drawn to zero; -1: it stays; NaN: nothing is chosen."""


@dataclass(frozen=True, slots=True)
class GrowingChannels(CoupledChannels):
    """Groups are chosen as the era begins, drawn to zero in it by lambda / 2 * ||w_g||^2, and masked as it ends.

    lambda grows by `growth` every `every` steps, to `limit` at most. w_g are the filters of a group.
    """

    name = "growing channels"
    sees_all: ClassVar[bool] = True
    growth: float = 1e-4
    every: int = 5
    limit: float = 1.0

    @property
    def goes_on_smaller(self) -> bool:
        """See `Method`: before the era ends nothing has died."""
        return False

    def begin(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Make room for what is remembered: see `Method`."""
        del now
        if layers:
            groups = coupling_of(layers).groups
            layers[0].memory.setdefault(SINCE, torch.full((groups,), torch.nan, dtype=torch.float64))
            layers[0].memory.setdefault(VALUE, torch.full((1,), torch.nan, dtype=torch.float64))

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Choose the groups as the era begins, and mask them as it ends: see `Method`."""
        memory, drawn = layers[0].memory, any(layer.in_era for layer in layers)
        if drawn and memory[SINCE].isnan().any():
            self.choose(layers, now)
        slices = list(CoupledGroups().slices(layers))
        value = worth(slices, RIDGE, self.strengths(memory, now)) if drawn else torch.nan
        memory[VALUE] = torch.full((1,), value, dtype=torch.float64)
        CoupledChannels.epoch(self, layers, now)

    def choose(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Choose the groups that are to go."""
        coupling = coupling_of(layers)
        stay = CoupledChannels.chosen(self, layers, coupling, np.ones(coupling.groups, dtype=np.bool_), fraction=1.0)
        layers[0].memory[SINCE] = torch.where(torch.from_numpy(stay), -1.0, float(now.updates)).double()

    def chosen(
        self, layers: Sequence[PrunedLayer], coupling: Coupling, alive: Alive, *, fraction: float | None = None
    ) -> Alive:
        """Return which groups live on: those that were chosen to, where they were."""
        since = layers[0].memory[SINCE]
        if bool(since.isnan().any()):
            return CoupledChannels.chosen(self, layers, coupling, alive, fraction=fraction)
        return np.asarray(alive & (since < 0).cpu().numpy())

    def before_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Add the gradient of the penalty, lambda * w_g: see `Method`."""
        if any(layer.in_era for layer in layers) and not bool(layers[0].memory[SINCE].isnan().any()):
            strengths = self.strengths(layers[0].memory, now)
            pull(layers, list(CoupledGroups().slices(layers)), RIDGE, strengths)

    def strengths(self, memory: Mapping[str, Tensor], now: Clock) -> Tensor:
        """Return lambda of each group, (groups,)."""
        since = memory[SINCE]
        grown = self.growth * ((now.updates - since) // self.every)
        return torch.where(since < 0, 0.0, grown.clamp(max=self.limit))


def greg(
    target: Any = None,
    scope: str | None = None,
    at_least: float | None = None,
    round_to: int | None = None,
    strength: float = 1e-4,
) -> Regime:
    """Choose the channels of smallest L1 norm as the era begins, draw them to zero over it, and remove them at its end.

    lambda grows by `strength` every 5 steps, to 1 at most; all three as in the authors' code for ImageNet, where the
    whole takes 50,000 steps: in a shorter era give a larger strength, 5 / steps for the same end.

    Left open: the authors let weights settle at the full lambda for a while (give a longer era for that), and stop in a
    layer as soon as its chosen weights are small enough (not done here). `greg-2` chooses while all are drawn.

    Raises:
        RegimeError: one of the settings is out of range.
    """
    wish = {"target": target, "scope": scope, "at_least": at_least, "round_to": round_to, "score": "l1"}
    more = {"growth": check_strength(strength)}
    return channels("greg", schedule=Stages, kind=GrowingChannels, more=more, **wish)


ENTRIES = (
    RegimeEntry(
        name="greg",
        make=greg,
        does="a growing L2 penalty drives the channels with the smallest L1 norm to zero; removes them at the end",
        family="penalty",
        granularity="coupled channel",
        gains="channels",
        source="Wang et al. 2021, 2012.09243, GReg-1",
        needs=("epochs after",),
    ),
)
