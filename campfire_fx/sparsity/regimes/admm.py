"""StructADMM (arXiv 1807.11091): over the era weights are drawn to a structured sparsity; then masked retraining.

min f(W) subject to W in S is split into W and Z in S. One iteration, with a scaled dual U:

1. W by any optimizer on f + rho/2 * ||W - Z + U||^2, whose gradient adds rho * (W - Z + U);
2. Z' = the point of S that is nearest to W + U: the groups of largest L2 norm stay, the others are zero;
3. U' = U + W - Z'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import Tensor

from campfire_fx.base.compat import foreach_add_, foreach_mul_, foreach_sub
from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain, plain_fields
from campfire_fx.base.sharding import local, part_of
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.granularity import CHANNEL, COLUMN, ELEMENT, FILTER, KERNEL, Granularity
from campfire_fx.sparsity.layer import PrunedLayer, exact
from campfire_fx.sparsity.method import Method
from campfire_fx.sparsity.record import Iterate
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.schedule import Stages
from campfire_fx.sparsity.scope import WITHIN_LAYER
from campfire_fx.sparsity.score import l2
from campfire_fx.sparsity.selection import Cut, Goal, Rule

Z, U = "admm_z", "admm_u"  # names in a state_dict, after the layer's
_PULL = 0.2  # rho times the steps of the first iteration
_STEPS = 100.0  # in an epoch, where nothing tells how many it has


@dataclass(frozen=True, slots=True)
class Admm(Method):
    """Weights are drawn to where they will be; masks move by the rule on W, when the schedule says so.

    Attributes:
        rho: of the penalty, at first; None: 0.2 divided by the optimizer steps of an iteration. What weights are drawn
            by in an iteration is rho times its steps times the learning rate (over 1 - momentum); much above 1, they
            stand still for the rest of the era.
        multiply: what rho is multiplied by at each update of Z and U; 1 keeps it. U is not rescaled.
        every: epochs from one update of Z and U to the next.

    Raises:
        RegimeError: rho or its multiplier is not positive, or `every` is no whole number from 1 up.
    """

    name = "admm"
    rho: float | None = None
    multiply: float = 1.3
    every: int = 1

    def __post_init__(self) -> None:
        plain_fields(self)
        for name, value in (("rho", self.rho), ("multiply", self.multiply)):
            if value is None and name == "rho":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise RegimeError(f"ADMM: {name}={value!r} is not above 0. Give a positive number.")
        if type(self.every) is not int or self.every < 1:
            raise RegimeError(f"ADMM: every={self.every!r} is no number of epochs. Give 1 or more.")

    def first_rho(self, now: Clock) -> float:
        """Return the rho that an aim begins with."""
        if self.rho is not None:
            return self.rho
        return _PULL / (self.every * (now.steps_of_an_epoch or _STEPS))

    def loaded(self, layers: Sequence[PrunedLayer], now: Clock, *, dense: bool) -> None:
        """Begin anew where the weights are those of a dense model: see `Method`."""
        if dense and any(layer.state.numbers for layer in layers):
            self._aim(layers, now, anew=True)

    def before_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Add the gradient of the penalty, rho * (W - Z + U), to weights that have a gradient: see `Method`."""
        del now
        drawn = [(layer.module.weight, layer) for layer in layers if layer.in_era and Z in layer.module.carried]
        if not (drawn := [pair for pair in drawn if pair[0].grad is not None]):
            return
        weights, layers = zip(*drawn, strict=True)
        pulls = list(foreach_sub([local(weight) for weight in weights], [_part(layer, Z) for layer in layers]))
        foreach_add_(pulls, [_part(layer, U) for layer in layers])
        foreach_mul_(pulls, [layer.state.numbers["rho"] for layer in layers])
        if layers[0].scale is not None:
            foreach_mul_(pulls, layers[0].scale)
        foreach_add_([local(weight.grad) for weight in weights], pulls)

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Update Z and U where that is due, at most once an epoch; move the masks; take up new aims: see `Method`."""
        for layer in layers:
            if Z in layer.module.carried and (last := _last(layer)) is not None and last.epoch != now.epoch:
                over = not layer.in_era or layer.aim != last.aim
                if over or (now.epoch - last.since) // self.every > last.updates:
                    layer.require_finite()
                    self._update(layer, replace(last, epoch=now.epoch))
        for layer in layers:
            if layer.rises:
                layer.move()
        self._aim(layers, now)

    def iterate(self, layer: PrunedLayer) -> Iterate | None:
        """See `Method`."""
        last = _last(layer)
        return last if last is not None and last.epoch == layer.clock.epoch else None

    def _aim(self, layers: Sequence[PrunedLayer], now: Clock, *, anew: bool = False) -> None:
        """Begin in layers with a new aim, Z = Proj(W) and U = 0, and end in those without one, after masks moved.

        `anew`: also where it has begun, because the weights are others.
        """
        for layer in layers:
            if not layer.in_era:
                layer.module.carry(**{Z: None, U: None})
                continue
            last = _last(layer)
            if not anew and Z in layer.module.carried and last is not None and last.aim == layer.aim:
                continue
            layer.require_finite()
            near = _nearest(layer, layer.weight, layer.aim)
            layer.module.carry(**{Z: near, U: torch.zeros_like(near)})
            primal = squared(layer.weight - near)
            layer.state.numbers = asdict(Iterate(layer.aim, now.epoch, 0, now.epoch, self.first_rho(now), primal))

    def _update(self, layer: PrunedLayer, last: Iterate) -> None:
        weight, before, dual = layer.weight, layer.module.carried[Z], layer.module.carried[U]
        near = _nearest(layer, weight + dual, last.aim)
        layer.module.carry(**{Z: near, U: dual + weight - near})
        updates, moved = last.updates + 1, (squared(weight - near), squared(near - before))
        last = replace(last, updates=updates, rho=last.rho * self.multiply, primal=moved[0], dual=moved[1])
        layer.state.numbers = asdict(last)


def _last(layer: PrunedLayer) -> Iterate | None:
    return Iterate(**layer.state.numbers) if layer.state.numbers else None


def _part(layer: PrunedLayer, name: str) -> Tensor:
    return part_of(layer.module.carried[name], layer.module.weight)


def _nearest(layer: PrunedLayer, weight: Tensor, sparsity: float) -> Tensor:
    filters, mask = layer.module.as_filters(exact(weight)), layer.module.as_filters(layer.mask)
    near = project(layer.rule, filters, mask, Goal(sparsity, layer.goal.final))
    return torch.empty_like(weight).copy_(layer.module.from_filters(near))


def project(rule: Rule, weight: Tensor, mask: Tensor, goal: Goal) -> Tensor:
    """Return the nearest weight, in the Euclidean norm, that is as sparse as a rule asks for.

    It is the nearest where the rule ranks whole groups by their L2 norm within the layer (a `Cut` with `l2`).

    Args:
        rule: what may stay.
        weight: (K, C, P), zero under the mask.
        mask: (K, C, P) bool; what is masked stays zero.
        goal: the sparsity asked for.
    """
    return torch.where(mask & rule(weight, mask, goal), weight, 0.0)


def squared(tensor: Tensor) -> float:
    """Return the squared Frobenius norm, summed in float64."""
    return float(tensor.double().square().sum())


@dataclass(frozen=True, slots=True)
class InTurn:
    """One structure until its share of the final sparsity is reached, then another on what is left.

    Meant for structures that cross, as columns and filters do: with a share a of the columns dead, a share
    b = 1 - (1 - s)/(1 - a) of the filters dies, and the layer has s. The first structure keeps to whole groups, so
    the second makes up for its rounding.
    """

    first: Cut
    second: Cut
    share: float

    def __call__(self, weight: Tensor, mask: Tensor, goal: Goal) -> Tensor:
        """Propose a mask: see `Rule`."""
        first = min(goal.sparsity, self.share * goal.final)
        kept = mask & self.first(weight, mask, Goal(first, goal.final))
        if goal.sparsity <= self.share * goal.final:
            return kept
        left = float(self.first.granularity.split(kept).any(-1).double().mean())
        return kept & self.second(weight, kept, Goal(max(0.0, 1 - (1 - goal.sparsity) / left), goal.final))


def admm(
    granularity: Granularity, *, rho: float | None = None, update: Admm | None = None, steps: Sequence[float] = (1.0,)
) -> Regime:
    """Draw the weights towards a structured sparsity by ADMM over the era; at its end, cut and freeze (StructADMM).

    Before the cut the weights are dense. What is cut are the groups of smallest L2 norm, so every iteration projects
    exactly: filters, channels, columns (shape-wise) or kernels of convolutions, or single weights of all layers.
    The epochs after the era are the paper's masked retraining.

    Args:
        granularity: `FILTER`, `CHANNEL`, `COLUMN`, `KERNEL`, `ELEMENT`, or another.
        rho: of the penalty, where there is no `update`.
        update: rho, its multiplier and the epochs of an iteration; `Admm()` where None.
        steps: parts of the final sparsity for pruning in several steps, each with an equal part of the era; the zeros
            of earlier steps are frozen, and ADMM starts anew with Z = Proj(W), U = 0 and the first rho.

    Raises:
        RegimeError: the steps do not rise to 1, or rho is not positive.
    """
    name = "unstructured" if granularity == ELEMENT else granularity.name
    groups = Cut(granularity, l2, WITHIN_LAYER)
    return _regime(name, groups, groups if granularity == ELEMENT else None, _update(rho, update), tuple(steps))


def admm_in_turn(
    first: Granularity,
    second: Granularity,
    *,
    share: float = 0.7,
    rho: float | None = None,
    update: Admm | None = None,
) -> Regime:
    """Chain two structures, each with half of the era: as `admm` for the first, then for the second on what it left.

    Args:
        first: of convolutions, as `COLUMN`.
        second: one that crosses it, as `FILTER`.
        share: of the final sparsity that the first one brings.
        rho: as in `admm`, and so is the next.
        update: of both.

    Raises:
        RegimeError: the share is not between 0 and 1, or rho is not positive.
    """
    share = plain(share)
    if not 0 < share < 1:
        raise RegimeError(
            f"regime 'admm': a share of {share!r} is not between 0 and 1. Give 0.7, or use one structure."
        )
    both = InTurn(Cut(first, l2, WITHIN_LAYER), Cut(second, l2, WITHIN_LAYER), share)
    return _regime(f"{first.name}-{second.name}", both, None, _update(rho, update), (share, 1.0))


def _update(rho: float | None, update: Admm | None) -> Admm:
    if update is not None:
        return update
    return Admm() if rho is None else Admm(rho)


def _regime(name: str, rule: Rule, linear: Rule | None, update: Admm, parts: tuple[float, ...]) -> Regime:
    schedule = partial(Stages, parts=parts)
    schedule(0, 1)  # says what is wrong with the parts
    return Regime(f"admm-{name}", rule, rule, linear, schedule=schedule, update=update)


def _entry(name: str, make: Callable[..., Regime], what: str, granularity: str, gains: str) -> RegimeEntry:
    return RegimeEntry(
        name=name,
        make=make,
        does=f"prunes {what}, driven to zero by ADMM over the era and cut at its end",
        family="admm",
        granularity=granularity,
        gains=gains,
        source="Zhang et al. 2018, arXiv 1807.11091",
        needs=("epochs after",),
    )


ENTRIES = (
    _entry("admm-filter", partial(admm, FILTER), "filters with the smallest L2 norm", "filter", "channels"),
    _entry("admm-channel", partial(admm, CHANNEL), "input channels with the smallest L2 norm", "channel", "channels"),
    _entry("admm-column", partial(admm, COLUMN), "GEMM columns with the smallest L2 norm", "column", "columns"),
    _entry("admm-kernel", partial(admm, KERNEL), "kernels with the smallest L2 norm", "kernel", "kernels"),
    _entry("admm-unstructured", partial(admm, ELEMENT), "the smallest weights", "weight", "weights"),
    _entry(
        "admm-column-filter",
        partial(admm_in_turn, COLUMN, FILTER),
        "columns in the first half of the era, then filters",
        "column, then filter",
        "channels",
    ),
)
