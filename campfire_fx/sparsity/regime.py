"""A regime: one rule for each kind of layer, a schedule, and a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity.budget import Budget
from campfire_fx.sparsity.exchange import Exchange, ExchangeOverLayers, Exchanging
from campfire_fx.sparsity.gradual import Gradual
from campfire_fx.sparsity.layer import Update, monotone
from campfire_fx.sparsity.method import Method
from campfire_fx.sparsity.over_layers import scope_over_layers
from campfire_fx.sparsity.penalty import Penalty
from campfire_fx.sparsity.prunable import Fits
from campfire_fx.sparsity.schedule import Polynomial, Schedule
from campfire_fx.sparsity.selection import Rule


@dataclass(frozen=True, slots=True)
class Regime:
    """A sparse-training method as a composition: granularity x score x scope (a rule) x schedule x update.

    Attributes:
        name: what reports and state_dicts call it.
        spatial: the rule for convolutions with more than one weight in a kernel; None leaves them dense.
        pointwise: the rule for 1x1 convolutions.
        linear: the rule for linear layers.
        schedule: makes the schedule of a layer from (start, end, exponent).
        update: how a proposed mask is taken up: a function of (mask, proposal), an `Exchange`, or any `Method`.
        sparsity: the final sparsity where the method fixes it (N:M), else None.
        budget: how the sparsity is divided among layers; None: each has the one asked for.
        penalty: what draws weights to zero until the era ends, beside what moves the masks.
        stem: whether convolutions that read the model's input take part, where nothing else is asked for.
        fits: says of a layer whether its rule is for it; None: for all.
        master: the `update` where weights under the mask train on (`DenseWeights`): its former place.
    """

    name: str
    spatial: Rule | None
    pointwise: Rule | None
    linear: Rule | None
    schedule: Callable[[int, int, float], Schedule] = Polynomial
    update: Update | Exchange | ExchangeOverLayers | Method = monotone
    sparsity: float | None = None
    master: Method | None = None
    budget: Budget | None = None
    stem: bool = False
    penalty: Penalty | None = None
    fits: Fits | None = None

    def __post_init__(self) -> None:
        if self.master is not None:
            object.__setattr__(self, "update", self.master)
        elif isinstance(self.update, Method) and self.update.trains_masked:
            object.__setattr__(self, "master", self.update)
        rules, method = (self.spatial, self.pointwise, self.linear), self.method
        if not method.ranks_over_layers and any(map(scope_over_layers, rules)):
            raise RegimeError(
                f"regime '{self.name}': its rule ranks over all layers, its method ({method.name}) within each. "
                "Give the rule a scope such as WITHIN_LAYER."
            )
        if self.penalty is not None and self.penalty.over.couples and not self.method.couples:
            raise RegimeError(
                f"regime '{self.name}': its penalty is on coupled channels, and its masks are not. "
                "Give a penalty InLayers, or take the update of regime 'channel'."
            )

    @property
    def method(self) -> Method:
        """What moves the masks in training."""
        if isinstance(self.update, Method):
            return self.update
        exchanges = hasattr(self.update, "exchange") or hasattr(self.update, "exchange_all")
        return Exchanging(cast(Exchange, self.update)) if exchanges else Gradual(self.update)
