"""A masked layer of a model in training, as its method sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.sharding import local, whole
from campfire_fx.layers.dense_weights import DenseWeightsLayer, keep_dense_weights, release_dense_weights
from campfire_fx.layers.masked import MaskedLayer, layers_sharing
from campfire_fx.sparsity.channels.coupling import Coupling
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.schedule import aim
from campfire_fx.sparsity.selection import Goal, Rule

if TYPE_CHECKING:
    from campfire_fx.sparsity.assignment import Assignment

_MOMENTA = ("momentum_buffer", "exp_avg")

WEIGHTS = "weights"
"""What a layer that was made smaller in the middle of its training remembers: how many weights it had."""

Update = Callable[[Tensor, Tensor], Tensor]
"""From a mask and the one that a rule proposes after it to the next one, (K, C, P) bool each."""


def monotone(mask: Tensor, proposal: Tensor) -> Tensor:
    """Keep what both keep: once zero, always zero (Campfire, Algorithm 2)."""
    return mask & proposal


@dataclass(slots=True)
class LayerState:
    """How far one layer has come.

    Attributes:
        assignment: what it is asked for.
        reached: the sparsity that its mask was last chosen for; None: never.
        by_hand: its mask was set by hand, so that its method leaves it alone.
        numbers: what its method remembers, plain numbers by name.
    """

    assignment: Assignment
    reached: float | None = None
    by_hand: bool = False
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class PrunedLayer:
    """One layer of a model. Tensors have the weight's shape; `module.as_filters` gives the view (K, C, P) of them.

    Layers that share a weight are one here, and get the same. Of a model that is spread over processes all tensors
    are whole, but `module.weight` and its gradient.

    Attributes:
        model: that it is in.
        module: the masked layer.
        state: how far it has come.
        clock: how far the training has.
        total: the final sparsity that all layers together were asked for.
        optimizers: those that are attached.
        scale: what gradients are multiplied by before a step, where a fused optimizer divides by it (fp16).
        coupling: the coupled channels of the model, for a method that asks for them.
        memory: tensors that the method remembers of all layers together, by name; saved in the `state_dict`.
        stepped: before a step, ids of the parameters that the optimizer holds; None: not known.
        together: all masked layers with this weight; None: they are looked for.
    """

    model: nn.Module
    module: MaskedLayer
    state: LayerState
    clock: Clock
    total: float = 0.0
    optimizers: Sequence[Optimizer] = ()
    scale: Tensor | None = None
    coupling: Coupling | None = None
    memory: dict[str, Tensor] = field(default_factory=dict)
    stepped: frozenset[int] | None = None
    together: Sequence[MaskedLayer] | None = None

    @property
    def due(self) -> float:
        """The sparsity due now."""
        assignment = self.state.assignment
        return assignment.sparsity * (1.0 if self.clock.frozen else assignment.schedule.fraction(self.clock.epoch))

    @property
    def dense_weights(self) -> int:
        """How many weights it had when the training began: more than now, where it was made smaller since."""
        return int(self.state.numbers.get(WEIGHTS, self.mask.numel()))

    @property
    def goal(self) -> Goal:
        """The sparsity due now and the final one."""
        return Goal(self.due, self.state.assignment.sparsity)

    @property
    def aim(self) -> float:
        """The sparsity that will be due at the end of the present stage."""
        return self.state.assignment.sparsity * aim(self.state.assignment.schedule, self.clock.epoch)

    @property
    def moves(self) -> bool:
        """Whether its method may still change it: neither was its mask set by hand, nor are all masks final."""
        return not self.clock.frozen and not self.state.by_hand

    @property
    def in_era(self) -> bool:
        """Whether its method may change it and the epoch is one of its era."""
        schedule = self.state.assignment.schedule
        return self.moves and schedule.start <= self.clock.epoch < schedule.end

    @property
    def progress(self) -> float:
        """How much of its era is over: 0 at its start, 1 at its end; to the step where steps are counted."""
        schedule, clock = self.state.assignment.schedule, self.clock
        epochs = clock.epoch + (clock.step / clock.steps_per_epoch if clock.steps_per_epoch else 0)
        length = schedule.end - schedule.start
        return (epochs - schedule.start) / length if length else float(epochs >= schedule.start)  # a single step

    @property
    def rises(self) -> bool:
        """Whether more sparsity is due than its mask was chosen for."""
        return not self.state.by_hand and self.due > (self.state.reached or 0.0)

    @property
    def rule(self) -> Rule:
        """What chooses its mask."""
        rule = self.state.assignment.rule
        assert rule is not None
        return rule

    @property
    def weight(self) -> Tensor:
        """The weight, detached; not to be written to."""
        return whole(self.module.weight.detach())

    @property
    def gradient(self) -> Tensor | None:
        """Its gradient, if it has one."""
        return None if self.module.weight.grad is None else whole(self.module.weight.grad)

    @property
    def mask(self) -> Tensor:
        """The present mask, bool; True = kept."""
        return self.module.mask

    @property
    def sharing(self) -> Sequence[MaskedLayer]:
        """All masked layers with this weight."""
        return layers_sharing(self.model, self.module) if self.together is None else self.together

    def set_mask(self, mask: Tensor) -> None:
        """Set a mask: what is not kept is zero from now on."""
        for module in self.sharing:
            module.set_mask(mask)

    def move(self, update: Update = monotone, before: Tensor | None = None) -> None:
        """Set the mask that `update` makes of the one before (None: the present one) and the rule's for `goal`."""
        mask = self.module.as_filters(self.mask if before is None else before)
        self.take_up(update(mask, self.rule(self.filters, mask, self.goal)))

    def take_up(self, mask: Tensor) -> None:
        """Set the mask (K, C, P) that was chosen for the sparsity that is due."""
        self.set_mask(self.module.from_filters(mask))
        self.state.reached = self.due

    @property
    def filters(self) -> Tensor:
        """The weight as it is ranked, (K, C, P)."""
        return self.module.as_filters(exact(self.weight))

    def require_finite(self) -> None:
        """Raise a RegimeError if the weight cannot be ranked."""
        if not bool(torch.isfinite(self.weight).all()):
            raise RegimeError(
                f"masks at {self.state.assignment.name}: its weight is not finite, so it cannot be ranked. "
                "Go back to a checkpoint from before training diverged."
            )

    def open_gradient(self, is_open: bool) -> None:
        """Leave the gradient as it is under the mask, or zero it there again, from the next backward pass on."""
        if self.module.masks_gradient == is_open:  # seldom, and this is asked in every step
            for module in self.sharing:
                module.masks_gradient = not is_open

    @property
    def momentum(self) -> Tensor | None:
        """The first moment that an attached optimizer has of the weight."""
        states = (optimizer.state.get(self.module.weight, {}) for optimizer in self.optimizers)
        found = (state[key] for state in states for key in _MOMENTA if isinstance(state.get(key), Tensor))
        momentum = next(found, None)
        return None if momentum is None else local(whole(momentum))

    def train_dense(self, kept_inputs: float | None, *, refresh: bool) -> None:
        """Train the weights under the mask too, and compute without them: see `DenseWeightsLayer.choose_inputs`."""
        for module in self.sharing:
            keep_dense_weights(module).choose_inputs(kept_inputs, refresh=refresh)

    def train_masked(self) -> None:
        """Undo `train_dense`: what is under the mask is zero."""
        for module in self.sharing if self.trains_dense else ():
            release_dense_weights(module)

    @property
    def trains_dense(self) -> bool:
        """Whether `train_dense` is in force."""
        return isinstance(self.module, DenseWeightsLayer)

    @property
    def threshold(self) -> Tensor:
        """() the score that the mask of a layer that trains dense was drawn at, to be written to."""
        assert isinstance(self.module, DenseWeightsLayer)
        return self.module.weight_threshold


def exact(weight: Tensor) -> Tensor:
    """Return a weight as it is ranked: in float32 where it is in half precision."""
    return weight if weight.dtype in (torch.float32, torch.float64) else weight.float()
