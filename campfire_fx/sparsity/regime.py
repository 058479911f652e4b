"""A regime: one rule for each kind of layer, a schedule, and an update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from campfire_fx.sparsity.budget import Budget
from campfire_fx.sparsity.master import DenseMaster
from campfire_fx.sparsity.schedule import Polynomial, Schedule
from campfire_fx.sparsity.selection import Rule
from campfire_fx.sparsity.update import Update, monotone


@dataclass(frozen=True, slots=True)
class Regime:
    """A sparse-training method as a composition: granularity x score x scope (a rule) x schedule x update.

    Attributes:
        name: what reports and state_dicts call it.
        spatial: the rule for convolutions with more than one weight in a kernel; None leaves them dense.
        pointwise: the rule for 1x1 convolutions.
        linear: the rule for linear layers.
        schedule: makes the schedule of a layer from (start, end, exponent).
        update: how a proposed mask is taken up.
        sparsity: the final sparsity where the method fixes it (N:M), else None.
        master: how weights under the mask are trained; None: they are zero, and stay so.
        budget: how the sparsity is divided among layers; None: each has the one asked for.
        stem: whether convolutions that read the model's input take part, where nothing else is asked for.
    """

    name: str
    spatial: Rule | None
    pointwise: Rule | None
    linear: Rule | None
    schedule: Callable[[int, int, float], Schedule] = Polynomial
    update: Update = monotone
    sparsity: float | None = None
    master: DenseMaster | None = None
    budget: Budget | None = None
    stem: bool = False
