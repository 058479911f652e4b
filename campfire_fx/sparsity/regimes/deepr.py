"""DeepR, deep rewiring (Bellec et al. 2018, arXiv 1711.05136): weights whose sign would change die, others grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain_fields
from campfire_fx.base.sharding import local, part_of
from campfire_fx.sparsity.chance import agreed_generator, seeded
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.method import Method
from campfire_fx.sparsity.random_start import random_start
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.selection import PROTECTED, lowest_of_all

_SIGN = "deepr_sign"  # in a state_dict, after the layer's name


@dataclass(frozen=True, slots=True)
class Rewiring(Method):
    """Every place has a sign. In each step living weights are drawn to zero and shaken; who gets the other sign dies.

    As many others grow at random, from zero.

    Attributes:
        l1: what is added to the gradient of every living weight, times its sign.
        noise: the standard deviation of what is added to it at random, sqrt(2 T / rate) for a temperature T.
    """

    name = "deepr"
    weights_return = True
    l1: float = 1e-5
    noise: float = 1e-5

    def __post_init__(self) -> None:
        plain_fields(self)
        if not (0 <= self.l1 < float("inf") and 0 <= self.noise < float("inf")):
            raise RegimeError(f"{self}: l1 and noise are 0 or more. The authors have 1e-5 for both.")

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Take up the first masks, and the signs of all places, until the era is over: see `Method`."""
        del now
        for layer in layers:
            if layer.rises:
                layer.module.carry(**{_SIGN: torch.where(layer.weight < 0, -1.0, 1.0).to(layer.weight)})
                layer.move()
                layer.state.numbers["seed"] = agreed_generator().initial_seed()
            elif layer.progress >= 1 or not layer.moves:
                layer.module.carry(**{_SIGN: None})

    def before_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Draw living weights to zero, and shake them: see `Method`."""
        for layer in layers:
            weight = layer.module.weight
            if not layer.in_era or _SIGN not in layer.module.carried or weight.grad is None:
                continue
            shaken = torch.randn(layer.mask.shape, generator=_chance(layer, now, 1), device=layer.mask.device)
            pull = (self.l1 * layer.module.carried[_SIGN] + self.noise * shaken.to(weight.dtype)) * layer.mask
            local(weight.grad).add_(part_of(pull if layer.scale is None else pull * layer.scale, weight))

    def after_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Rewire: see `Method`."""
        for layer in layers:
            if layer.in_era and _SIGN in layer.module.carried:
                strength = layer.weight * layer.module.carried[_SIGN]
                count = int(min((strength < 0).sum(), (~layer.mask).sum()))
                if count:
                    layer.set_mask(rewired(strength, layer.mask, count, _chance(layer, now, 0)))


def rewired(strength: Tensor, mask: Tensor, count: int, chance: torch.Generator) -> Tensor:
    """Return the next mask: the `count` lowest in strength, weight times sign, die, and as many that were dead grow."""
    gone = strength < 0
    if int(gone.sum()) > count:  # fewer can die than have the other sign
        gone = lowest_of_all(strength.masked_fill(~mask, PROTECTED), count)
    drawn = torch.rand(mask.shape, generator=chance, device=mask.device)
    return mask & ~gone | lowest_of_all(drawn.masked_fill(mask, PROTECTED), count)


def _chance(layer: PrunedLayer, now: Clock, which: int) -> torch.Generator:
    return seeded(layer.state.numbers["seed"] ^ (2 * now.updates + which), layer.mask.device)


def deepr(l1: float = 1e-5, noise: float = 1e-5) -> Regime:
    """Begin with random weights, the same share of each layer, and rewire after every step of the era (Algorithm 1).

    The sign of a place is that of its initial weight. Penalty and noise enter through the gradient, which is the
    paper's update for plain SGD; with momentum or Adam it is another. What is open: what just died is not drawn in the
    same step, and no more die than there are places to grow; the paper's own sparsities differ by layer (`overrides`).

    Args:
        l1: of the penalty, the paper's alpha; the authors' default on MNIST.
        noise: in the gradient; the authors' default on MNIST.

    Raises:
        RegimeError: one of them is negative or not finite.
    """
    return random_start("deepr", update=Rewiring(l1, noise))


ENTRIES = (
    RegimeEntry(
        name="deepr",
        make=deepr,
        does="L1 and noise in every step; prunes weights that would change sign and regrows as many at random",
        family="dynamic",
        granularity="weight",
        gains="weights",
        source="Bellec et al. 2018, arXiv 1711.05136, Algorithm 1, and the authors' code",
    ),
)
