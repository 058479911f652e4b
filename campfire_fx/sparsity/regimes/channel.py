"""Coupled channels: whole channels die together, everywhere, until the slim network meets a target.

As an epoch of the era begins, the groups of lowest score for what they save are masked in all layers that they have a
part in, so that every cost is at most dense - f(epoch) * (dense - target), with f of eq. (1) of Campfire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.hints import did_you_mean
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.channels.choice import EVEN, GLOBAL, Limit, check_floor, choose, floors, rounded_up
from campfire_fx.sparsity.channels.coupling import Alive, Coupling
from campfire_fx.sparsity.channels.layers import (
    GATHERED,
    change_of_loss,
    coupling_of,
    evidence_of,
    living,
    mask_kernels,
    with_coupling,
    zero_filters,
)
from campfire_fx.sparsity.channels.scores import SCORES, ChannelScore, normalised
from campfire_fx.sparsity.channels.targets import Target, as_target, cost_of, limits
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.method import Method
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.regimes.campfire import combined
from campfire_fx.sparsity.selection import WHOLE, nearest

NO_TARGET = Target()
_SMOOTHING = 0.98  # of the moving average over steps: it remembers about the last fifty


@dataclass(frozen=True, slots=True)
class CoupledChannels(Method):
    """Coupled groups die in the order of their score for what they save.

    Attributes:
        score: how much a group matters.
        scope: what groups are ranked in: "global", or "each set".
        target: what the slim network may cost.
        at_least: the share (or, as a whole number, the count) of each set's channels that stays.
        round_to: sets keep a multiple of so many channels.
        soft: groups that are chosen in the era are set to zero at each epoch and train on; only at its end are they
            masked (SFP, He et al. 2018).
        share: where there is no target, the part of a layer's sparsity that whole channels make up.
    """

    name = "channel"
    couples = True
    score: ChannelScore = SCORES["flow"]
    scope: str = GLOBAL
    target: Target = NO_TARGET
    at_least: float = 0.15
    round_to: int = 1
    soft: bool = False
    share: float = 1.0

    @property
    def goes_on_smaller(self) -> bool:
        """See `Method`: groups that only wait to be masked must be there when they are."""
        return not self.soft

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Choose the groups that die, and mask them in every layer: see `Method`."""
        if not any(layer.rises for layer in layers):
            return
        ends = now.frozen or all(layer.progress >= 1 for layer in layers)
        coupling = coupling_of(layers)
        alive = np.ones(coupling.groups, dtype=np.bool_)
        if ends or not self.soft:
            alive = living(((coupled, layer.module) for layer, coupled in with_coupling(layers, coupling)), coupling)
        left = self.chosen(layers, coupling, alive)
        for layer, coupled in with_coupling(layers, coupling):
            if layer.state.by_hand:
                continue
            kernels = torch.from_numpy(coupled.kernels(left)).to(layer.mask.device)
            if self.soft and not ends:
                zero_filters(layer, kernels)
            else:
                mask_kernels(layer, kernels)
            layer.state.reached = layer.due

    def chosen(self, layers: Sequence[PrunedLayer], coupling: Coupling, alive: Alive) -> Alive:
        """Return which of the living groups live on."""
        first = layers[0]
        evidence = evidence_of(layers, coupling, alive)
        scores = self.score.of(evidence)
        if self.scope == GLOBAL and not self.score.comparable:
            scores = normalised(scores, coupling, alive)
        floor = floors(coupling, self._least(layers, coupling), self.round_to)
        if self.target.asked:
            schedule = first.state.assignment.schedule
            due = limits(self.target, coupling, 1.0 if first.clock.frozen else schedule.fraction(first.clock.epoch))
        else:
            shares = np.array([self.share * due for due in _due_of(layers, coupling)])
            sizes = np.array([one.whole for one in coupling.sets])
            kept = sizes - np.array([nearest(int(n), s) for n, s in zip(sizes, shares, strict=True)], dtype=np.int64)
            if self.scope == EVEN:
                floor = rounded_up(coupling, np.maximum(floor, kept), self.round_to)
            due = [Limit(cost_of(coupling, "channels"), float(kept.sum()))]
        wish: dict[str, Any] = {"scope": self.scope, "multiple": self.round_to, "coarse": self.target.timed}
        return choose(coupling, scores, alive, due, floor, **wish)

    def _least(self, layers: Sequence[PrunedLayer], coupling: Coupling) -> list[float]:
        """Return the floor of each set; one with a layer whose mask was set by hand stays whole."""
        asked = {layer.state.assignment.name: layer.state.assignment.at_least for layer in layers}
        least = least_of(coupling, asked, self.at_least)
        by_hand = {layer.state.assignment.name for layer in layers if layer.state.by_hand}
        whole = [not by_hand.isdisjoint((*one.writers, *one.readers)) for one in coupling.sets]
        return [1.0 if kept else usual for kept, usual in zip(whole, least, strict=True)]


@dataclass(frozen=True, slots=True)
class GatheringChannels(CoupledChannels):
    """Coupled channels by a score that is gathered in every step, from gradients that are there anyway."""

    gathers = True

    def begin(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Make room for it: see `Method`."""
        del now
        if layers:
            room = torch.full((coupling_of(layers).groups,), torch.nan, dtype=torch.float64)
            layers[0].memory.setdefault(GATHERED, room)

    def before_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Gather the score of a step: see `Method`."""
        del now
        if not layers or not layers[0].moves:
            return
        change = change_of_loss(layers, coupling_of(layers))
        if change is None or not bool(torch.isfinite(change).all()):
            return  # of a step that a gradient scaler will skip
        memory, seen = layers[0].memory, change.square()
        before = memory[GATHERED].to(change.device)
        memory[GATHERED] = torch.where(before.isnan(), seen, _SMOOTHING * before + (1 - _SMOOTHING) * seen)


def least_of(coupling: Coupling, asked: Mapping[str, float | None], usual: float) -> list[float]:
    """Return the floor of each set: the highest that a layer which writes it asks for, by path; else the usual one."""
    found = []
    for one in coupling.sets:
        own = [least for path in one.writers if (least := asked.get(path)) is not None]
        found.append(max(own, default=usual, key=lambda least: _share(least, one.whole * one.channels)))
    return found


def _due_of(layers: Sequence[PrunedLayer], coupling: Coupling) -> list[float]:
    """Return the share of each set that is due to go: the least that a layer which writes it asks for."""
    due = {layer.state.assignment.name: layer.due for layer in layers}
    return [min((due[path] for path in one.writers if path in due), default=0.0) for one in coupling.sets]


def _share(least: Any, size: int) -> float:
    return least / size if isinstance(least, int) else least


def _score_named(score: object) -> ChannelScore:
    if isinstance(score, ChannelScore):
        return score
    if score not in SCORES:
        raise RegimeError(
            f"score: unknown score {score!r}.{did_you_mean(str(score), SCORES)} The scores are {', '.join(SCORES)}."
        )
    return SCORES[str(score)]


def _method(regime: str, **given: Any) -> CoupledChannels:
    asked = {name: plain(value) for name, value in given.items() if value is not None}
    target = as_target(asked["target"]) if "target" in asked else Target()
    scope = asked.get("scope", GLOBAL if target.asked else EVEN)
    if scope not in (GLOBAL, EVEN):
        raise RegimeError(f"scope: {scope!r} is not known. Use '{GLOBAL}' or '{EVEN}'.")
    at_least = check_floor(asked.get("at_least", 0.15), f"regime '{regime}'")
    round_to = asked.get("round_to", 1)
    if type(round_to) is not int or round_to < 1:
        raise RegimeError(f"round_to: {round_to!r} is not a number of channels. Give 1, or 8 for most hardware.")
    soft = asked.get("soft", False)
    if not isinstance(soft, bool):
        raise RegimeError(f"soft: {soft!r} is neither True nor False. Give one of them.")
    known = _score_named(asked.get("score", "flow"))
    kind = GatheringChannels if known.from_data else CoupledChannels
    return kind(known, scope, target, at_least, round_to, soft)


def channel(
    target: Any = None,
    score: Any = None,
    scope: str | None = None,
    at_least: float | None = None,
    round_to: int | None = None,
    soft: bool | None = None,
) -> Regime:
    """Remove whole channels, in all layers that they couple, until the slim network meets a target.

    Args:
        target: {"macs": 0.5} and the like: see `Target`; None: `sparsity` is the share of channels that goes.
        score: a name in `SCORES`, or a `ChannelScore`; None: "flow".
        scope: "global" ranks groups over all sets, "each set" takes the same share of each. None: "global" for a
            target, "each set" for a sparsity.
        at_least: share (up to 1.0) or count (a whole number) of each set's channels that stays; None: 0.15.
        round_to: every set keeps a multiple of so many channels.
        soft: channels that are chosen train on until the era ends.

    Raises:
        RegimeError: one of them is out of range.
    """
    asked = _method("channel", target=target, score=score, scope=scope, at_least=at_least, round_to=round_to, soft=soft)
    return Regime("channel", spatial=WHOLE, pointwise=WHOLE, linear=WHOLE, update=asked, stem=True)


def channel_combined(
    target: Any = None,
    score: Any = None,
    scope: str | None = None,
    at_least: float | None = None,
    round_to: int | None = None,
    fraction: float = 0.8,
) -> Regime:
    """Remove whole channels to a target, and windows and kernels in what survives to the sparsity, in one era.

    Every layer meets its sparsity, with the weights of its dead channels counted as zeros. The arguments are those of
    `channel` and `combined`; without a target half of the sparsity is the share of channels that goes.

    Raises:
        RegimeError: one of them is out of range.
    """
    inside = combined(fraction)
    wish = {"score": score, "scope": scope, "at_least": at_least, "round_to": round_to}
    asked = replace(_method("channel-combined", target=target, **wish), share=0.5)
    return Regime("channel-combined", inside.spatial, inside.pointwise, inside.linear, update=asked)


ENTRIES = (
    RegimeEntry(
        name="channel",
        make=channel,
        does="whole channels die together in all layers that they couple, to a sparsity or to a target in cost",
        family="channels",
        granularity="coupled channel",
        gains="channels",
        source="built here; scores by Li 2017, Liu 2017, He 2019 and Molchanov 2019",
    ),
    RegimeEntry(
        name="channel-combined",
        make=channel_combined,
        does="whole channels die to a target, and `combined` prunes what survives until each layer meets the sparsity",
        family="channels",
        granularity="coupled channel, then kernels",
        gains="channels",
        source="built here, on `channel` and `combined`",
    ),
)
