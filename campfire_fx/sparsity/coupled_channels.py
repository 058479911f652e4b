"""Coupled channels as a method: as an epoch of the era begins, the groups that matter least for what they save die.

They are masked in all layers that they have a part in, so that every cost is at most dense - f(epoch) * (dense -
target), with f of eq. (1) of Campfire. What regimes of whole channels are made of: `channels`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.hints import did_you_mean
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.channels.choice import EVEN, GLOBAL, Limit, above, check_floor, choose, floors, rounded_up
from campfire_fx.sparsity.channels.coupling import Alive, Coupling, Floats
from campfire_fx.sparsity.channels.gathering import OF_A_BATCH, OF_A_STEP, as_maps, taylor
from campfire_fx.sparsity.channels.layers import (
    GATHERED,
    coupling_of,
    evidence_of,
    living,
    mask_kernels,
    with_coupling,
    zero_filters,
)
from campfire_fx.sparsity.channels.scores import SCORES, ChannelScore, Evidence, normalised
from campfire_fx.sparsity.channels.targets import Target, as_target, cost_of, limits
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.method import GRADIENTS, INPUTS, Method
from campfire_fx.sparsity.penalty import Penalty
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.schedule import Polynomial
from campfire_fx.sparsity.selection import WHOLE, nearest

NO_TARGET = Target()
OBSERVED = "channel scores seen"
"""What the memory of a training calls how often each group was seen, (groups,)."""
ZEROED = "zeroed"
"""What a layer remembers of a soft method: the epoch in which its filters were last set to zero."""
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
        threshold: groups die whose score is not above it, as many as they are, in the place of a count; None: a count.
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
    threshold: float | None = None

    @property
    def goes_on_smaller(self) -> bool:
        """See `Method`: groups that only wait to be masked must be there when they are."""
        return not self.soft

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Choose the groups that die, and mask them in every layer: see `Method`."""
        if not any(layer.rises for layer in layers) or (self.soft and _zeroed(layers) == now.epoch and not now.frozen):
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
                layer.state.numbers[ZEROED] = now.epoch
            else:
                mask_kernels(layer, kernels)
                layer.state.reached = layer.due

    def chosen(
        self, layers: Sequence[PrunedLayer], coupling: Coupling, alive: Alive, *, fraction: float | None = None
    ) -> Alive:
        """Return which of the living groups live on, when `fraction` of the way is due; None: what the clock says."""
        first = layers[0]
        evidence = evidence_of(layers, coupling, alive)
        scores = self.scores(evidence, layers)
        if self.scope == GLOBAL and not self.score.comparable:
            scores = normalised(scores, coupling, alive)
        floor = floors(coupling, self._least(layers, coupling), self.round_to)
        if self.threshold is not None:
            return above(scores, self.threshold, coupling, alive, floor, multiple=self.round_to)
        if self.target.asked:
            schedule = first.state.assignment.schedule
            now = 1.0 if first.clock.frozen else schedule.fraction(first.clock.epoch)
            due = limits(self.target, coupling, now if fraction is None else fraction)
        else:
            shares = np.array([self.share * due for due in _due_of(layers, coupling, fraction)])
            sizes = np.array([one.whole for one in coupling.sets])
            kept = sizes - np.array([nearest(int(n), s) for n, s in zip(sizes, shares, strict=True)], dtype=np.int64)
            if self.scope == EVEN:
                floor = rounded_up(coupling, np.maximum(floor, kept), self.round_to)
            due = [Limit(cost_of(coupling, "channels"), float(kept.sum()))]
        wish: dict[str, Any] = {"scope": self.scope, "multiple": self.round_to, "coarse": self.target.timed}
        return choose(coupling, scores, alive, due, floor, **wish)

    def scores(self, evidence: Evidence, layers: Sequence[PrunedLayer]) -> Floats:
        """Return how much each group matters, (groups,), 0 or more."""
        del layers
        return self.score.of(evidence)

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

    gathers = GRADIENTS

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
        seen = OF_A_STEP.get(self.score.name, taylor)(layers, coupling_of(layers))
        if seen is None or not bool(torch.isfinite(seen).all()):
            return  # of a step that a gradient scaler will skip
        memory = layers[0].memory
        before = memory[GATHERED].to(seen.device)
        memory[GATHERED] = torch.where(before.isnan(), seen, _SMOOTHING * before + (1 - _SMOOTHING) * seen)


@dataclass(frozen=True, slots=True)
class WatchingChannels(CoupledChannels):
    """Coupled channels by a score of what the layers that read them are given: its mean over channels and batches."""

    gathers = INPUTS

    def begin(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Make room for it: see `Method`."""
        del now
        for name, value in ((GATHERED, torch.nan), (OBSERVED, 0.0)) if layers else ():
            room = torch.full((coupling_of(layers).groups,), value, dtype=torch.float64)
            layers[0].memory.setdefault(name, room)

    def watch(self, layer: PrunedLayer, inputs: Tensor) -> None:
        """Take what a layer is given into the mean: see `Method`."""
        coupling, memory = coupling_of([layer]), layer.memory
        (_, coupled), *_ = with_coupling([layer], coupling)
        if coupled.goes_whole:
            return
        values = OF_A_BATCH[self.score.name](as_maps(layer, inputs)).double().cpu()
        numbers = coupled.inputs_on(torch.device("cpu")) % (coupling.groups + 1)
        sums, count = torch.zeros(2, coupling.groups + 1, dtype=torch.float64)
        sums.index_add_(0, numbers, values)
        count.index_add_(0, numbers, torch.ones_like(values))
        before = memory[OBSERVED].cpu()
        seen = before + count[:-1]
        whole = memory[GATHERED].cpu().nan_to_num() * before + sums[:-1]
        memory[GATHERED], memory[OBSERVED] = torch.where(seen > 0, whole / seen, torch.nan), seen


def least_of(coupling: Coupling, asked: Mapping[str, float | None], usual: float) -> list[float]:
    """Return the floor of each set: the highest that a layer which writes it asks for, by path; else the usual one."""
    found = []
    for one in coupling.sets:
        own = [least for path in one.writers if (least := asked.get(path)) is not None]
        found.append(max(own, default=usual, key=lambda least: _share(least, one.whole * one.channels)))
    return found


def _due_of(layers: Sequence[PrunedLayer], coupling: Coupling, fraction: float | None) -> list[float]:
    """Return the share of each set that is due to go: the least that a layer which writes it asks for."""
    asked = [(layer.state.assignment, layer.due) for layer in layers]
    due = {one.name: now if fraction is None else fraction * one.sparsity for one, now in asked}
    return [min((due[path] for path in one.writers if path in due), default=0.0) for one in coupling.sets]


def _zeroed(layers: Sequence[PrunedLayer]) -> int:
    """Return the last epoch in which channels were set to zero that train on; -1: none."""
    return max((layer.state.numbers.get(ZEROED, -1) for layer in layers), default=-1)


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


def channel_method(
    regime: str, *, kind: type[CoupledChannels] | None = None, more: Mapping[str, Any] | None = None, **given: Any
) -> CoupledChannels:
    """Return the method that the settings of `channel` ask for.

    Args:
        regime: that errors speak of.
        kind: its class, where it is not one of those here.
        more: what that class has beyond them.
        given: settings; None: the usual ones.
    """
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
    watches = WatchingChannels if known.name in OF_A_BATCH else GatheringChannels
    kind = kind or (watches if known.from_data else CoupledChannels)
    threshold = _threshold(asked.get("threshold"), target)
    return kind(known, scope, target, at_least, round_to, soft, threshold=threshold, **(more or {}))


def _threshold(value: Any, target: Target) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise RegimeError(
            f"threshold: {value!r} is no number from 0 up. Give the score that what dies does not exceed."
        )
    if target.asked:
        raise RegimeError("threshold: there is a target too, and only one of the two can decide. Give one of them.")
    return float(value)


def channels(name: str, *, schedule: Any = Polynomial, penalty: Penalty | None = None, **given: Any) -> Regime:
    """Return a regime of coupled channels by another name, with arguments of `channel_method`."""
    whole: dict[str, Any] = {"spatial": WHOLE, "pointwise": WHOLE, "linear": WHOLE, "stem": True}
    return Regime(name, schedule=schedule, update=channel_method(name, **given), penalty=penalty, **whole)
