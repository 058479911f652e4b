"""DSR, dynamic sparse reparameterization (Mostafa and Wang 2019, arXiv 1902.05967): weights move between layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain_fields
from campfire_fx.sparsity.chance import agreed_generator, seeded
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.granularity import ELEMENT, KERNEL, Granularity
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.method import Method
from campfire_fx.sparsity.over_layers import Ranked, as_cut
from campfire_fx.sparsity.random_start import random_start
from campfire_fx.sparsity.reallocation import below, in_proportion
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.score import l1

_LIMIT = "dsr threshold"


@dataclass(frozen=True, slots=True)
class Reallocating(Method):
    """Every `period` steps groups below one threshold die in all layers, and as many weights grow where much lives.

    The threshold doubles where less than 0.9, and halves where more than 1.1 of the `share` of all weights died.
    """

    name = "dsr"
    weights_return = True
    period: int = 1000
    share: float = 0.08
    threshold: float = 1e-3

    def __post_init__(self) -> None:
        plain_fields(self)
        if type(self.period) is not int or self.period < 1 or not 0 < self.share < 1 or not self.threshold > 0:
            raise RegimeError(f"{self}: give a period of 1 step or more, a share in (0, 1), a threshold above 0.")

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Take up the first masks: see `Method`."""
        del now
        for layer in layers:
            if layer.rises:
                layer.move()
                layer.state.numbers["seed"] = agreed_generator().initial_seed()

    def after_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Let weights change places where that is due: see `Method`."""
        layers = [layer for layer in layers if layer.in_era and layer.state.reached is not None]
        if not layers or now.updates % self.period:
            return
        memory, first = layers[0].memory, torch.tensor([self.threshold], dtype=torch.float64)
        limit = float(memory.setdefault(_LIMIT, first))
        turnovers = [
            below(
                Ranked(replace(as_cut(layer.rule), score=l1), layer.filters, layer.module.as_filters(layer.mask)), limit
            )
            for layer in layers
        ]
        for layer, turnover, count in zip(layers, turnovers, in_proportion(turnovers), strict=True):
            chance = torch.rand(turnover.living.shape, generator=seeded(layer.state.numbers["seed"] ^ now.updates))
            layer.set_mask(layer.module.from_filters(turnover.grown(count, chance.to(layer.mask.device))))
        gone, wanted = sum(t.gone for t in turnovers), self.share * sum(t.left + t.gone for t in turnovers)
        memory[_LIMIT] = first.fill_(limit * (2 if gone < 0.9 * wanted else 0.5 if gone > 1.1 * wanted else 1))


def dsr(granularity: Granularity = ELEMENT, *, period: int = 1000, share: float = 0.08) -> Regime:
    """Begin with random groups, the same share of each layer, and let them move between layers in the era.

    As many weights grow as die, at random places. A layer's part of them is in proportion to the weights that live on
    in it (Algorithm 1). What is open: the paper's period grows from 1000 steps to 8000 in the training, here it is
    constant; `share` is about what its 400,000 weights are of a ResNet-50 at 80 %; whole kernels are ranked by their
    mean magnitude.

    Args:
        granularity: of convolutions: `ELEMENT`, `KERNEL` or another; linear layers have single weights.
        period: steps between two exchanges.
        share: of the living weights that is to die at each.

    Raises:
        RegimeError: the period is not a whole number from 1 up, or the share is outside (0, 1).
    """
    name = "dsr" if granularity == ELEMENT else f"dsr-{granularity.name}"
    return random_start(name, granularity=granularity, update=Reallocating(period, share))


ENTRIES = tuple(
    RegimeEntry(
        name=name,
        make=partial(dsr, granularity),
        does=f"prunes {what} below one global threshold; regrows as many weights at random, mostly in denser layers",
        family="dynamic",
        granularity=granularity.name if granularity != ELEMENT else "weight",
        gains=gains,
        source="Mostafa and Wang 2019, arXiv 1902.05967, Algorithm 1",
    )
    for name, granularity, what, gains in (
        ("dsr", ELEMENT, "weights", "weights"),
        ("dsr-kernel", KERNEL, "kernels", "kernels"),
    )
)
