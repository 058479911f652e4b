"""Drop and grow: within the era, weights of a sparse model die for others to grow (RigL and its like)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

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


class OpenLayer(NamedTuple):
    """A layer that is open to an exchange over layers.

    Attributes:
        weight, gradient, mask: (K, C, P), as `Exchange.exchange` gets them.
        sparsity: that is due in it.
        head: whether no layer with a weight comes between it and the model's output.
    """

    weight: Tensor
    gradient: Tensor
    mask: Tensor
    sparsity: float
    head: bool


@runtime_checkable
class ExchangeOverLayers(Protocol):
    """How weights change places every `period` steps, within layers and from one to another: see `Exchange`."""

    @property
    def period(self) -> int:
        """See `Exchange`."""

    def __call__(self, mask: Tensor, proposal: Tensor) -> Tensor:
        """Return the next mask: see `Update`."""

    def exchange_all(self, layers: Sequence[OpenLayer], moment: Moment) -> Sequence[Tensor]:
        """Return the next masks, (K, C, P) bool each.

        Args:
            layers: those of an optimizer that are in their era; every process has the same.
            moment: when this is, by the first of them.
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
    how: Exchange | ExchangeOverLayers

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
        due = [(layer, opened(layer)) for layer in layers if not layer.module.masks_gradient]
        ready = [(layer, one) for layer, one in due if one is not None]
        if isinstance(self.how, ExchangeOverLayers) and len(ready) < len(due):
            ready = []  # all of them wait
        done = {id(layer) for layer, _ in ready}
        for layer, _ in due:
            if id(layer) not in done:
                layer.module.mask_gradient(layer.module.weight)
        for (layer, _), mask in zip(ready, self._exchanged(ready, now), strict=True):
            layer.open_gradient(False)
            layer.set_mask(layer.module.from_filters(mask))

    def _exchanged(self, ready: Sequence[tuple[PrunedLayer, OpenLayer]], now: Clock) -> Sequence[Tensor]:
        """Return the next masks of layers."""
        if not ready:
            return ()
        moments = [Moment(layer.progress, now.updates) for layer, _ in ready]
        if isinstance(self.how, ExchangeOverLayers):
            return self.how.exchange_all([one for _, one in ready], moments[0])
        return [
            self.how.exchange(one.weight, one.gradient, one.mask, moment)
            for (_, one), moment in zip(ready, moments, strict=True)
        ]

    def behaviour(self) -> Tensor:
        """See `Method`: of a weight of 64, or two, half of them masked."""
        numbers = (torch.arange(64) * 37 % 64 + 1).double().view(4, 4, 4)  # each from 1 to 64 once
        mask = numbers > 32
        gradient = (numbers * 11 % 64 + 1) - 32
        if isinstance(self.how, ExchangeOverLayers):
            layers = [OpenLayer(numbers * mask * (2 * i + 1), gradient, mask, 0.5, i == 1) for i in range(2)]
            return torch.stack(list(self.how.exchange_all(layers, Moment(0.25, 3))))
        return self.how.exchange(numbers * mask, gradient, mask, Moment(0.25, 3))


def opened(layer: PrunedLayer) -> OpenLayer | None:
    """Return a layer as it is exchanged in; None if it has no gradient that ranks."""
    gradient, asked = layer.gradient, layer.state.assignment
    if gradient is None or not bool(torch.isfinite(gradient).all()):
        return None
    weight, gradient, mask = map(layer.module.as_filters, (layer.weight, gradient, layer.mask))
    return OpenLayer(weight, gradient, mask, layer.due, asked.head)
