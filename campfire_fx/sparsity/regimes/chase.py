"""Chase (Yin et al. 2023, arXiv 2305.19454): weights move over all layers, and channels die among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.channels.choice import Limit, check_floor, choose, floors
from campfire_fx.sparsity.channels.coupling import Alive, Coupling, Floats
from campfire_fx.sparsity.channels.layers import coupling_of, evidence_of, living, with_coupling
from campfire_fx.sparsity.channels.scores import ChannelScore, Evidence
from campfire_fx.sparsity.channels.targets import cost_of
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.coupled_channels import CoupledChannels
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.exchange import opened
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.random_start import random_start
from campfire_fx.sparsity.reallocation import by_gradient
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.schedule import Polynomial
from campfire_fx.sparsity.selection import WHOLE
from campfire_fx.sparsity.topk import at_most


def mean_magnitude(evidence: Evidence) -> Floats:
    """Score a channel by the mean magnitude of its filters, zeros counted in (Chase's UMM), summed over filters."""
    return evidence.of_filters(lambda filters: filters.abs().mean(1))


UMM = ChannelScore("mean_magnitude", mean_magnitude, comparable=True)


@dataclass(frozen=True, slots=True)
class ChannelsAmongWeights(CoupledChannels):
    """As epochs of the era begin channels die, to a share `gone` of all; every `period` steps weights move.

    The smallest weights of all layers die, a `fraction` that falls to 0 along half a cosine, and as many grow as the
    layers are asked for together, where the gradient is largest; in channels that died none does.
    """

    name = "chase"
    weights_return = True
    gone: float = 0.4
    period: int = 100
    fraction: float = 0.3

    @property
    def goes_on_smaller(self) -> bool:
        """See `Method`: gradients under masks are asked of layers as they were."""
        return False

    def begin(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Leave gradients whole before an exchange: see `Method`."""
        on_time = now.updates > 0 and now.updates % self.period == 0
        for layer in layers:
            layer.open_gradient(on_time and layer.in_era and layer.state.assignment.rule != WHOLE)

    def after_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """See `begin`."""
        self.begin(layers, now)

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Take up the first masks; then let channels die: see `Method`."""
        self.begin(layers, now)
        for layer in (layer for layer in layers if layer.rises):
            layer.move()
        coupling = coupling_of(layers)
        alive, floor = _alive(layers, coupling), floors(coupling, self._least(layers, coupling))
        due = coupling.dense["channels"] * (1 - self.gone * _fraction(layers[0]))
        scores = self.score.of(evidence_of(layers, coupling, alive))
        left = choose(coupling, scores, alive, [Limit(cost_of(coupling, "channels"), due)], floor)
        if bool((left == alive).all()):
            return
        for layer, coupled in with_coupling(layers, coupling):
            kernels = torch.from_numpy(coupled.kernels(left)).to(layer.mask.device).unsqueeze(-1)
            if not layer.state.by_hand:
                layer.set_mask(layer.module.from_filters(layer.module.as_filters(layer.mask) & kernels))

    def before_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Exchange weights over all layers where that is due: see `Method`."""
        del now
        coupling = coupling_of(layers) if layers else None
        pairs = [(layer, one) for layer, one in with_coupling(layers, coupling)] if coupling else []
        pairs = [pair for pair in pairs if not pair[0].module.masks_gradient]
        known = [opened(layer) for layer, _ in pairs]
        ready = [one for one in known if one is not None]
        if coupling is None or not pairs or len(ready) < len(known):
            for layer, _ in pairs:
                layer.module.mask_gradient(layer.module.weight)
            return
        alive = _alive(layers, coupling)
        free: list[Tensor] = [
            torch.from_numpy(coupled.kernels(alive)).to(one.mask.device).unsqueeze(-1).expand_as(one.mask)
            for (_, coupled), one in zip(pairs, ready, strict=True)
        ]
        fraction = self.fraction / 2 * (1 + math.cos(math.pi * pairs[0][0].progress))
        total = sum(one.mask.numel() - at_most(one.mask.numel(), one.sparsity) for one in ready)
        dying = int(fraction * sum(int(one.mask.sum()) for one in ready))
        for (layer, _), mask in zip(pairs, by_gradient(ready, free, dying, total), strict=True):
            layer.open_gradient(False)
            layer.set_mask(layer.module.from_filters(mask))


def _alive(layers: Sequence[PrunedLayer], coupling: Coupling) -> Alive:
    return living(((coupled, layer.module) for layer, coupled in with_coupling(layers, coupling)), coupling)


def _fraction(layer: PrunedLayer) -> float:
    """Return the part of the channels to go that is due: all after four fifths of the era, so that weights settle."""
    era, clock = layer.state.assignment.schedule, layer.clock
    end = era.start + 4 * (era.end - era.start) // 5
    return 1.0 if clock.frozen else Polynomial(era.start, end).fraction(clock.epoch)


def chase(channels: float = 0.4, period: int = 100, at_least: float | None = None) -> Regime:
    """Begin with random weights, let them move over all layers by gradients, and channels die among them, for good.

    Channels are ranked over the whole network by the mean magnitude of their filters; how many are gone rises by the
    cubic schedule. What is open, and how it is here: the authors' code begins with Erdos-Renyi-Kernel, here each layer
    is as sparse as asked at first; of its two ways of exchanging weights this is drop and grow (not MEST); channels of
    residual sums go too; and the channels that a layer keeps are half of what would be left of each, as in the
    authors' CIFAR runs.

    Args:
        channels: the share of all channels that dies, in [0, 1).
        period: steps between two exchanges of weights.
        at_least: share (up to 1.0) or count (a whole number) of each set's channels that stays; None: see above.

    Raises:
        RegimeError: one of them is out of range.
    """
    channels, period = plain(channels), plain(period)
    if isinstance(channels, bool) or not isinstance(channels, (int, float)) or not 0 <= channels < 1:
        raise RegimeError(f"channels: {channels!r} is outside [0, 1). Give the share of all channels that dies.")
    if type(period) is not int or period < 1:
        raise RegimeError(f"period: {period!r} is no number of steps. Give a whole number from 1 up.")
    least = check_floor((1 - channels) / 2 if at_least is None else at_least, "regime 'chase'")
    update = ChannelsAmongWeights(UMM, at_least=least, gone=channels, period=period)
    return random_start("chase", update=update, stem=True)


ENTRIES = (
    RegimeEntry(
        name="chase",
        make=chase,
        does="prunes by magnitude and regrows by gradient over all layers; removes the channels with least magnitude",
        family="dynamic",
        granularity="weight, and coupled channel",
        gains="channels",
        source="Yin et al. 2023, arXiv 2305.19454, and the authors' code",
        needs=("gradients",),
    ),
)
