"""Drop and grow: within the era, weights of a sparse model die for others to grow (RigL and its like)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.method import Method
from campfire_fx.sparsity.over_layers import move


@dataclass(frozen=True, slots=True)
class Moment:
    """When an exchange takes place.

    Attributes:
        progress: how much of the era is over, in [0, 1); known to the step where steps are counted (`attach` with
            steps_per_epoch), else to the epoch.
        step: optimizer steps taken so far, for methods that draw at random.
    """

    progress: float
    step: int


class Exchange(Protocol):
    """How weights change places every `period` steps within the era. A frozen record.

    It is an `Update` too, which says how the mask is taken up that the rule proposes.
    """

    @property
    def period(self) -> int:
        """Optimizer steps between two exchanges, from 1 up; the first takes place after so many."""

    def __call__(self, mask: Tensor, proposal: Tensor) -> Tensor:
        """Return the next mask: see `Update`."""

    def exchange(self, weight: Tensor, gradient: Tensor, mask: Tensor, moment: Moment) -> Tensor:
        """Return the next mask, (K, C, P) bool.

        Args:
            weight: (K, C, P), zero under the mask.
            gradient: of the loss, (K, C, P), under the mask too, as the optimizer finds it: accumulated, averaged
                over processes, unscaled, clipped. Every process has the same.
            mask: (K, C, P) bool.
            moment: when this is.
        """


@dataclass(frozen=True, slots=True)
class Exchanging(Method):
    """Masks follow the schedule; in the era weights change places right before an optimizer step, which sees that.

    Gradients under the mask are left as they are in the backward pass before, and in no other. One that is not finite
    ranks nothing: its layer waits for the next step, and the optimizer does not see what is under its mask.
    """

    name = "exchange"
    ranks_over_layers = True
    weights_return = True
    how: Exchange

    def begin(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Leave the gradients whole of the layers that exchange weights before the next step: see `Method`."""
        on_time = now.updates > 0 and now.updates % self.how.period == 0
        for layer in layers:
            layer.open_gradient(on_time and layer.in_era)

    def after_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """See `begin`."""
        self.begin(layers, now)

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Take up the masks that the rule proposes: see `Method`."""
        self.begin(layers, now)
        move(layers, self.how)

    def before_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Exchange weights where that is due: see `Method`."""
        for layer in layers:
            if layer.module.masks_gradient:
                continue
            gradient = layer.gradient
            if gradient is None or not bool(torch.isfinite(gradient).all()):
                layer.module.mask_gradient(layer.module.weight)
                continue
            weight, gradient, mask = map(layer.module.as_filters, (layer.weight, gradient, layer.mask))
            mask = self.how.exchange(weight, gradient, mask, Moment(layer.progress, now.updates))
            layer.open_gradient(False)
            layer.set_mask(layer.module.from_filters(mask))

    def behaviour(self) -> Tensor:
        """See `Method`: of a weight of 64, half of them masked."""
        numbers = (torch.arange(64) * 37 % 64 + 1).double().view(4, 4, 4)  # each from 1 to 64 once
        mask = numbers > 32
        gradient = (numbers * 11 % 64 + 1) - 32
        return self.how.exchange(numbers * mask, gradient, mask, Moment(0.25, 3))
