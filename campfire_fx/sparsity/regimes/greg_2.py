"""GReg-2 (Wang et al. 2021, arXiv 2012.09243): a growing L2 penalty on all channels shows which are to go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.coupled_channels import channels
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.penalty import RIDGE, check_strength, pull
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.regimes.greg import SINCE, GrowingChannels
from campfire_fx.sparsity.schedule import Stages
from campfire_fx.sparsity.selection import ROUNDING
from campfire_fx.sparsity.slices import CoupledGroups

ALL_SINCE = "all drawn since"
"""What is remembered: the step since which all groups are drawn alike; NaN: the era has not begun."""


@dataclass(frozen=True, slots=True)
class ChosenWhileDrawn(GrowingChannels):
    """All groups are drawn from the beginning of the era, and chosen when lambda has grown to `pick`.

    Until then lambda grows by a tenth of `growth` every `every` steps. Then that of the chosen goes on from `pick`, by
    `growth`; the others get `recover`, which is negative: they grow back.
    """

    name = "chosen while drawn"
    pick: float = 1e-2
    recover: float = -1e-4

    def begin(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Make room for what is remembered: see `Method`."""
        GrowingChannels.begin(self, layers, now)
        if layers:
            layers[0].memory.setdefault(ALL_SINCE, torch.full((1,), torch.nan, dtype=torch.float64))

    def choose(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Note that the era has begun, and choose the groups as soon as lambda is there."""
        memory = layers[0].memory
        if bool(memory[ALL_SINCE].isnan()):
            memory[ALL_SINCE] = torch.full((1,), float(now.updates), dtype=torch.float64)
        if self._level(memory, now) >= self.pick * (1 - ROUNDING):
            GrowingChannels.choose(self, layers, now)

    def before_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Choose where that is due, and add the gradient of the penalty: see `Method`."""
        if any(layer.in_era for layer in layers):
            if bool(layers[0].memory[SINCE].isnan().any()):
                self.choose(layers, now)
            pull(layers, list(CoupledGroups().slices(layers)), RIDGE, self.strengths(layers[0].memory, now))

    def strengths(self, memory: Mapping[str, Tensor], now: Clock) -> Tensor:
        """Return lambda of each group, (groups,)."""
        since = memory[SINCE]
        if bool(since.isnan().any()):
            return torch.full_like(since, self._level(memory, now))
        grown = self.pick + self.growth * ((now.updates - since) // self.every)
        return torch.where(since < 0, self.recover, grown.clamp(max=self.limit))

    def _level(self, memory: Mapping[str, Tensor], now: Clock) -> float:
        """Return lambda of all groups while none is chosen."""
        return self.growth / 10 * ((now.updates - float(memory[ALL_SINCE])) // self.every)


def greg_2(
    target: Any = None,
    scope: str | None = None,
    at_least: float | None = None,
    round_to: int | None = None,
    strength: float = 1e-4,
) -> Regime:
    """Draw all channels to zero alike, choose those of smallest L1 norm then, and go on with these alone.

    The penalty parts channels by the curvature of the loss: those that matter resist. The numbers are those of the
    authors' code for ImageNet: lambda grows by strength / 10 every 5 steps to 0.01, where the choice is made, then by
    `strength` for the chosen, to 1 at most; -0.0001 for the others. Choosing takes 0.5 / strength steps: give a larger
    strength in a shorter era. Where the era ends before that, the smallest go then.

    Left open, as in `greg`: a while to settle, and stopping by layer. Layers choose at the same time here, as lambda is
    the same for all.

    Raises:
        RegimeError: one of the settings is out of range.
    """
    wish = {"target": target, "scope": scope, "at_least": at_least, "round_to": round_to, "score": "l1"}
    more = {"growth": check_strength(strength)}
    return channels("greg-2", schedule=Stages, kind=ChosenWhileDrawn, more=more, **wish)


ENTRIES = (
    RegimeEntry(
        name="greg-2",
        make=greg_2,
        does="a growing L2 penalty on all channels, then on those with the smallest L1 norm; removes them at the end",
        family="penalty",
        granularity="coupled channel",
        gains="channels",
        source="Wang et al. 2021, 2012.09243, GReg-2, and the authors' code",
        needs=("epochs after",),
    ),
)
