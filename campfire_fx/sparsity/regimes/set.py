"""SET, sparse evolutionary training (Mocanu et al. 2018): sparse from the first step, rewired after every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain_fields
from campfire_fx.sparsity.budget import ERK
from campfire_fx.sparsity.chance import agreed_generator
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.method import Method
from campfire_fx.sparsity.random_start import random_start
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.selection import PROTECTED, lowest_of_all


@dataclass(frozen=True, slots=True)
class Rewiring(Method):
    """After every epoch of the era the share `zeta` of a layer's weights, the smallest, makes room for as many others.

    Those are drawn at random among the places that were empty, and start from zero.
    """

    name = "set"
    weights_return = True
    zeta: float = 0.3

    def __post_init__(self) -> None:
        plain_fields(self)
        if isinstance(self.zeta, bool) or not isinstance(self.zeta, (int, float)) or not 0 <= self.zeta <= 1:
            raise RegimeError(f"zeta: {self.zeta!r} is outside [0, 1]. Give the share of weights that change places.")

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Take up the first mask, or rewire once where an epoch of the era has passed: see `Method`."""
        for layer in layers:
            numbers = layer.state.numbers
            if layer.rises:
                layer.move()
                numbers["seed"] = agreed_generator().initial_seed()  # kept, so that a resumed run draws the same
            elif layer.in_era and numbers["epoch"] < now.epoch:
                chance = torch.Generator().manual_seed(numbers["seed"] ^ now.epoch)
                layer.set_mask(self.rewired(layer.weight, layer.mask, chance))
            numbers["epoch"] = now.epoch

    def rewired(self, weight: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Return the next mask, with as many weights."""
        count = int(min(self.zeta * mask.sum(), (~mask).sum()))
        dropped = lowest_of_all(weight.abs().masked_fill(~mask, PROTECTED), count)
        chance = torch.rand(mask.shape, generator=generator).to(mask.device)
        return mask & ~dropped | lowest_of_all(chance.masked_fill(mask, PROTECTED), count)


def evolutionary(zeta: float = 0.3) -> Regime:
    """Divide the sparsity by Erdos-Renyi-Kernel, begin with a mask drawn at random, and rewire it after every epoch.

    Raises:
        RegimeError: zeta is outside [0, 1].
    """
    return random_start("set", update=Rewiring(zeta), budget=ERK(), stem=True)


ENTRIES = (
    RegimeEntry(
        name="set",
        make=evolutionary,
        does="prunes the smallest 30 % of the weights after every epoch, regrows at random; layer sparsities by ERK",
        family="dynamic",
        granularity="weight",
        gains="weights",
        source="Mocanu et al. 2018, arXiv 1707.04780",
    ),
)
