"""Penalties: what draws groups of weights to zero beside the loss, strength * sum over groups of f(||w_g||).

A penalty is a `Method` that moves no mask: a regime has one beside what moves its masks (`Regime.penalty`). It enters
as a gradient right before the optimizer's step, where gradients are accumulated, averaged over processes and unscaled
(`GradientPenalty`), or as a proximal step right after it (`ProximalPenalty`), until the era ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.base.sharding import local, part_of
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.method import Method
from campfire_fx.sparsity.slices import Grouping, Slices, norms_of

VALUE, SHARE = "penalty", "penalty strength"
"""Names in the memory of a training: what the penalty came to as the epoch began, and its strength where relative."""

_SOFTENING = 1e-3  # of `log`: far below it a group is drawn as by `ridge`, far above it less, the longer it is


@dataclass(frozen=True, slots=True, repr=False)
class Shape:
    """A penalty on the length n of a group, elementwise functions of lengths.

    Attributes:
        name: what a `state_dict` calls it.
        value: f(n).
        pull: f'(n) / n, by which a gradient step multiplies the weights of the group.
        shrink: of n and t, by what the proximal step of t * f multiplies them; None: it has no closed form.
    """

    name: str
    value: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]
    shrink: Callable[[Tensor, float], Tensor] | None = None

    def __repr__(self) -> str:
        return self.name


LASSO = Shape("lasso", lambda n: n, lambda n: 1 / n, lambda n, t: (1 - t / n).clamp_min(0))
"""f(n) = n: group lasso; L1 where groups are single numbers. The gradient at 0 is taken as 0."""
RIDGE = Shape("ridge", lambda n: n.square() / 2, torch.ones_like, lambda n, t: torch.full_like(n, 1 / (1 + t)))
"""f(n) = n^2 / 2: weight decay of the groups."""
LOG = Shape("log", lambda n: (1 + n / _SOFTENING).log(), lambda n: 1 / (n * (n + _SOFTENING)))
"""f(n) = log(1 + n / 0.001): the lasso reweighted by 1 / (n + 0.001), the weights brought up to date in every step
(Candes, Wakin and Boyd 2008, eq. 9 and 10, who solve for each set of weights)."""


def check_strength(value: object) -> float:
    """Return a strength that is a number above 0, or raise a RegimeError."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise RegimeError(f"strength: {value!r} is not above 0. Give a positive number.")
    return float(value)


@dataclass(frozen=True, slots=True)
class Penalty(Method):
    """A penalty on groups of weights, and its value in the record as each epoch begins. See its two kinds.

    Attributes:
        strength: what the sum over groups is multiplied by; of a relative one, what the penalty is worth at first.
        over: which groups.
        shape: f.
        relative: whether the sum is divided by what it is as training begins.

    Raises:
        RegimeError: the strength is not above 0.
    """

    name = "penalty"
    sees_all: ClassVar[bool] = True
    strength: float
    over: Grouping
    shape: Shape = LASSO
    relative: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", check_strength(self.strength))

    @property
    def goes_on_smaller(self) -> bool:
        """See `Method`."""
        return True

    def begin(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Make room for what is remembered: see `Method`."""
        del now
        if layers:
            layers[0].memory.setdefault(VALUE, torch.full((1,), torch.nan, dtype=torch.float64))
        if layers and self.relative and SHARE not in layers[0].memory:
            share = self.strength / worth(list(self.over.slices(layers)), self.shape)
            layers[0].memory[SHARE] = torch.full((1,), share, dtype=torch.float64)

    def loaded(self, layers: Sequence[PrunedLayer], now: Clock, *, dense: bool) -> None:
        """Measure a relative strength anew where the weights are those of a dense model: see `Method`."""
        if dense and layers:
            layers[0].memory.pop(SHARE, None)
            self.begin(layers, now)

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Note what it comes to: see `Method`."""
        del now
        if layers:
            slices = list(self.over.slices(layers))
            value = worth(slices, self.shape, self._strength(layers)) if self.acts(layers) else torch.nan
            layers[0].memory[VALUE] = torch.full((1,), value, dtype=torch.float64)

    def acts(self, layers: Sequence[PrunedLayer]) -> bool:
        """Return whether the era is still to end."""
        return any(layer.moves and layer.clock.epoch < layer.state.assignment.schedule.end for layer in layers)

    def _strength(self, layers: Sequence[PrunedLayer]) -> float:
        return float(layers[0].memory[SHARE]) if self.relative else self.strength


@dataclass(frozen=True, slots=True)
class GradientPenalty(Penalty):
    """A penalty whose gradient is added before each step: strength * f'(||w_g||) / ||w_g|| * w.

    Clipping by norm does not see it, and an optimizer with moments treats it as a part of the gradient.
    """

    name = "gradient penalty"

    def before_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Add the gradient of the penalty to that of each parameter that is stepped: see `Method`."""
        del now
        if self.acts(layers):
            pull(layers, list(self.over.slices(layers)), self.shape, self._strength(layers))


@dataclass(frozen=True, slots=True)
class ProximalPenalty(Penalty):
    """A penalty that is a proximal step after each step of the optimizer, of t = its learning rate * strength.

    Groups become exactly zero and can leave zero again. With plain SGD this is proximal gradient descent. A weight in
    two groups (a kernel that one group writes and another reads) is shrunk by both, by their lengths before the step.
    """

    name = "proximal penalty"

    def __post_init__(self) -> None:
        Penalty.__post_init__(self)
        if self.shape.shrink is None:
            raise RegimeError(f"penalty: '{self.shape.name}' has no proximal step. Take GradientPenalty.")

    def after_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Take the proximal step: see `Method`."""
        del now
        if not self.acts(layers) or any(map(_was_skipped, layers[0].optimizers)):
            return
        rates = _rates(layers)
        slices = list(self.over.slices(layers))
        assert self.shape.shrink is not None
        for one, norms in zip(slices, norms_of(slices), strict=True):
            if id(one.parameter) in rates:
                shrunk = self.shape.shrink(norms, rates[id(one.parameter)] * self._strength(layers))
                factor = one.spread(torch.where(norms > 0, shrunk, 1).to(one.parameter.dtype))
                local(one.parameter.detach()).mul_(part_of(factor, one.parameter))


def worth(slices: Sequence[Slices], shape: Shape, strength: float | Tensor = 1.0) -> float:
    """Return the sum over groups of strength * f; a coupled group counts once. Arguments as those of `pull`."""
    total, coupled = 0.0, None
    for one, norms in zip(slices, norms_of(slices), strict=True):
        values = torch.where(norms > 0, shape.value(norms), 0).double()
        if one.groups is None:
            total += float((values * strength).sum())
        else:
            coupled = values.new_zeros(one.count + 1) if coupled is None else coupled
            coupled[one.groups] = values  # all slices of a group have the same
    return total if coupled is None else total + float((coupled[:-1] * strength).sum())


def pull(layers: Sequence[PrunedLayer], slices: Sequence[Slices], shape: Shape, strength: float | Tensor) -> None:
    """Add strength * f'(||w_g||) / ||w_g|| * w to the gradient of each parameter that has one and is stepped.

    Args:
        layers: of the method.
        slices: what the groups are made of.
        shape: f.
        strength: of all groups, or of each coupled group, (groups,).
    """
    stepped, scale = layers[0].stepped, layers[0].scale
    if isinstance(strength, Tensor):
        strength = torch.cat([strength, strength.new_zeros(1)])
    for one, factor in zip(slices, _together(shape.pull, norms_of(slices)), strict=True):
        parameter = one.parameter
        if parameter.grad is None or (stepped is not None and id(parameter) not in stepped):
            continue
        if isinstance(strength, Tensor):
            assert one.groups is not None
            factor = factor * strength.to(factor)[one.groups]
        else:
            factor = factor * strength
        if scale is not None:
            factor = factor * scale.to(factor)
        spread = part_of(one.spread(factor.to(parameter.dtype)), parameter)
        local(parameter.grad).addcmul_(local(parameter.detach()), spread)


def _together(function: Callable[[Tensor], Tensor], norms: Sequence[Tensor]) -> list[Tensor]:
    """Return a function of each length, 0 for a length of 0: one call for all of them, where they are of one kind."""
    if len({(one.device, one.dtype) for one in norms}) != 1:
        return [torch.where(one > 0, function(one), 0) for one in norms]
    every = torch.cat([one.flatten() for one in norms])
    parts = torch.where(every > 0, function(every), 0).split([one.numel() for one in norms])
    return [part.view_as(one) for part, one in zip(parts, norms, strict=True)]


def _rates(layers: Sequence[PrunedLayer]) -> dict[int, float]:
    """Return the learning rate of each parameter that an attached optimizer holds and that trains, by id."""
    groups = [group for optimizer in layers[0].optimizers for group in optimizer.param_groups]
    if not groups:
        raise RegimeError(
            "penalty: a proximal step needs the optimizer's learning rate, and none is attached. "
            "Call attach(optimizer)."
        )
    return {id(one): float(group["lr"]) for group in groups for one in group["params"] if one.requires_grad}


def _was_skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a fused optimizer has left out its step, because gradients were not finite (fp16)."""
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, Tensor) and bool(found)
