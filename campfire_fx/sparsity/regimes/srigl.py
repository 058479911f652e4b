"""SRigL (Lasby et al. 2024, arXiv 2305.02299): RigL with as many weights in every neuron, and neurons that die."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain_fields
from campfire_fx.sparsity.budget import ERK
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.exchange import Moment, OpenLayer
from campfire_fx.sparsity.random_start import random_start
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.scope import WITHIN_FILTER
from campfire_fx.sparsity.selection import ROUNDING, lowest_of_all


def fan_in(size: int, sparsity: float) -> int:
    """Return how many of a neuron's weights die so that int((1 - s) * size) stay, at least one."""
    return size - max(1, int((1 - sparsity) * size + ROUNDING))


@dataclass(frozen=True, slots=True)
class ConstantFanIn:
    """Drop and grow as RigL does, with the same number of weights in every living neuron (filter) of a layer.

    Salient are the largest weights that stay and, of as many places as die, those of largest gradient. A neuron lives
    if it has `salient` times its fan-in of them; the others die, and the living share their weights: fan-in is what
    the layer may have, divided by the living. The `fraction` falls to 0 along half a cosine.
    """

    period: int = 100
    fraction: float = 0.3
    salient: float = 0.3

    def __post_init__(self) -> None:
        plain_fields(self)
        wrong = type(self.period) is not int or self.period < 1 or not 0 <= self.fraction <= 1
        if wrong or not 0 <= self.salient <= 1:
            raise RegimeError(f"{self}: give a period of 1 step or more, fraction and salient in [0, 1].")

    def __call__(self, mask: Tensor, proposal: Tensor) -> Tensor:
        """Take up the mask that training begins with: see `Update`."""
        return mask & proposal

    def exchange_all(self, layers: Sequence[OpenLayer], moment: Moment) -> Sequence[Tensor]:
        """Return the next masks, each layer's by itself: see `ExchangeOverLayers`."""
        fraction = self.fraction / 2 * (1 + math.cos(math.pi * moment.progress))
        return [self.exchanged(layer, fraction).view_as(layer.mask) for layer in layers]

    def exchanged(self, layer: OpenLayer, fraction: float) -> Tensor:
        """Return the next mask of a layer, (K, C * P), when a fraction of its weights changes places."""
        mask, gradient = layer.mask.flatten(1), layer.gradient.flatten(1).abs()
        weight = layer.weight.flatten(1).abs().masked_fill(~mask, -1.0)
        count = int(mask.sum())  # in Python: a tensor would round the product to float32
        stay = count - int(fraction * count)
        salient = ~lowest_of_all(weight, mask.numel() - stay)
        salient |= ~lowest_of_all(gradient, mask.numel() - (int(mask.sum()) - stay))
        most = max(len(mask), int((1 - layer.sparsity) * mask.numel() + ROUNDING))  # weights that the layer may have
        counts = salient.sum(1)
        lives = counts >= (0 if layer.head else max(1, int(self.salient * (most // len(mask)))))
        fewest = -(-most // mask.shape[1])  # with all their weights
        lives[counts.argsort(descending=True, stable=True)[:fewest]] = True
        size = min(mask.shape[1], most // int(lives.sum()))
        kept = ~lowest_of_all(weight.masked_fill(~lives.unsqueeze(1), -1.0), mask.numel() - stay)
        kept &= mask & lives.unsqueeze(1)
        order = torch.where(kept, weight, gradient).argsort(dim=1, descending=True, stable=True)
        first = kept.gather(1, order).byte().argsort(dim=1, descending=True, stable=True)  # then what grows
        chosen = torch.zeros_like(mask).scatter(1, order.gather(1, first)[:, :size], True)
        return chosen & lives.unsqueeze(1)


def srigl(period: int = 100, salient: float = 0.3) -> Regime:
    """Divide the sparsity by Erdos-Renyi-Kernel, begin with as many random weights in every neuron, and exchange them.

    Constant fan-in lets a layer be stored as one dense array of weights and one of indices. What is open, and how it is
    here: fan-in counts as int((1 - s) * K * C * P) over the living neurons, and of what share `salient` is the minimum
    of salient weights is the fan-in before neurons die, an option of the authors' code (the other is the dense fan-in).
    Classes never die: neurons of the layers that the output is read from stay.

    Raises:
        RegimeError: the period is not a whole number from 1 up, or the share is outside [0, 1].
    """
    update = ConstantFanIn(period, salient=salient)
    return random_start("srigl", scope=WITHIN_FILTER, count=fan_in, update=update, budget=ERK(), stem=True)


ENTRIES = (
    RegimeEntry(
        name="srigl",
        make=srigl,
        does="as `rigl`, with a constant fan-in for each neuron; prunes neurons with few salient weights",
        family="dynamic",
        granularity="weight, and filters",
        gains="channels",
        source="Lasby et al. 2024, arXiv 2305.02299, and the authors' code",
        needs=("gradients",),
    ),
)
