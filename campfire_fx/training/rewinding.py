"""Rewinding: weights, optimizer and learning rate go back to an early epoch each time that masks have moved."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.base.sharding import local
from campfire_fx.training.attachment import bare
from campfire_fx.training.masks import mask_names
from campfire_fx.training.model import SparseModel


class Rewinding:
    """Brings a sparse training back to an early epoch each time that its masks have moved; the masks stay.

    Train, prune a part, rewind, repeat (Frankle and Carbin 2019, arXiv 1803.03635; to a later epoch than the first:
    Frankle et al. 2019, arXiv 1903.01611; the learning rate alone: Renda et al. 2020, arXiv 2003.02389). Works with any
    regime. The sparse model's own clock goes on: its era counts all epochs::

        rewinding = campfire_fx.Rewinding(sparse, optimizer, scheduler)
        for _ in range(epochs):
            rewinding.epoch()
            ...  # the steps of an epoch
            scheduler.step()

    A scheduler that goes back starts its curve again, so let it be as long as one round. Save `state_dict()` with the
    model's and the optimizer's: a resumed run goes on as if never stopped.

    Args:
        model: the sparse model, not wrapped.
        others: what goes back with it: the optimizer, and schedulers, by `state_dict` and `load_state_dict`.
        to: the epoch to whose beginning it goes back, from 0; None: that of the regime, or 0.
        weights: whether weights, statistics and momenta go back; if not, learning rates do (learning-rate rewinding).

    Raises:
        RegimeError: the model is not sparse, the epoch is not a whole number from 0 up, or masks move after the first
            update of an epoch.
    """

    def __init__(self, model: SparseModel, *others: Any, to: int | None = None, weights: bool = True) -> None:
        if not isinstance(model, SparseModel):
            raise RegimeError(f"Rewinding: a {type(model).__name__} has no masks. Give what sparsify returned.")
        cycle = model._life_cycle
        usual = next((m.rewinds_to for m, _ in cycle.state.methods() if m.rewinds_to is not None), 0)
        self.to = usual if to is None else plain(to)
        if type(self.to) is not int or self.to < 0:
            raise RegimeError(f"Rewinding: to={to!r} is no epoch. Give 0 for the initial weights, or a later one.")
        if cycle.state.clock.late:
            raise RegimeError(
                "Rewinding: masks move after the first update of an epoch, when its weights have gone back already. "
                "Call sparsify with masks_move='before'."
            )
        self.model, self.weights = model, weights
        self.others = tuple(bare(other) if hasattr(other, "zero_grad") else other for other in others)
        self.epochs_back = 0  # how many epochs the learning rate is behind the clock
        self._remembered: dict[str, Any] | None = None
        self._reached: list[float | None] = []
        cycle.rewound = True

    def epoch(self) -> bool:
        """Do what is due as an epoch begins: remember it, or go back; return whether it went back.

        Raises:
            RegimeError: the epoch to go back to is over, and was not remembered; or the model was made smaller since.
        """
        state = self.model._life_cycle.state
        reached = [layer.reached for layer in state.ruled.values()]
        if self._remembered is None:
            if state.clock.epoch > self.to:
                raise RegimeError(
                    f"Rewinding: epoch {self.to} is over, and nothing was remembered. Call epoch() as each epoch "
                    "begins, and in a resumed run load_state_dict before."
                )
            if state.clock.epoch == self.to:
                self._remembered = self._present()
            self._reached = reached
            return False
        moved = reached != self._reached
        self._reached = reached
        if moved:
            self._go_back(self._remembered)
            self.epochs_back = state.clock.epoch - self.to
        return moved

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers, of tensors and plain values; it is as large as model and optimizer."""
        names = ("to", "weights", "epochs_back", "_remembered", "_reached")
        return {name.lstrip("_"): getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what another one remembered.

        Raises:
            RegimeError: that one went back to another epoch, or by other parts.
        """
        mine = {"to": self.to, "weights": self.weights}
        for name, value in mine.items():
            if state[name] != value:
                raise RegimeError(
                    f"Rewinding: it was saved with {name}={state[name]}, this one has {value}. Give the same."
                )
        self.epochs_back, self._reached = int(state["epochs_back"]), list(state["reached"])
        self._remembered = copy.deepcopy(state["remembered"])

    def _present(self) -> dict[str, Any]:
        values = {name: local(value).detach().clone() for name, value in self._values()} if self.weights else {}
        return {"model": values, "others": [copy.deepcopy(other.state_dict()) for other in self.others]}

    def _values(self) -> list[tuple[str, Tensor]]:
        """Return all parameters and buffers but the masks."""
        masks = frozenset(mask_names(self.model))
        buffers = [(name, buffer) for name, buffer in self.model.named_buffers() if name not in masks]
        return [*self.model.named_parameters(), *buffers]

    @torch.no_grad()
    def _go_back(self, remembered: Mapping[str, Any]) -> None:
        for name, value in self._values() if self.weights else ():
            early = remembered["model"].get(name)
            if early is None or early.shape != local(value).shape:
                raise RegimeError(
                    f"Rewinding at {name}: it is another tensor than in epoch {self.to}. "
                    "Make a model smaller after the last round only."
                )
        for name, value in self._values() if self.weights else ():
            local(value).copy_(remembered["model"][name])
        for other, early in zip(self.others, remembered["others"], strict=True):
            early = copy.deepcopy(early)
            if isinstance(other, Optimizer) and not self.weights:
                early = {"state": other.state_dict()["state"], "param_groups": early["param_groups"]}
            other.load_state_dict(early)
        if self.weights:
            self.model._life_cycle.loaded(self.model, dense=True)


def rewinding_of(model: SparseModel, *others: Any) -> Rewinding | None:
    """Return what rewinds a training whose regime asks for it; None: it asks for none."""
    asks = any(method.rewinds_to is not None for method, _ in model._life_cycle.state.methods())
    return Rewinding(model, *others) if asks else None


def longest_training(ends: Sequence[int], to: int, epochs: int) -> int:
    """Return the epochs of the longest training between two rewindings, those that are gone back to counted in.

    Args:
        ends: the epochs in which masks move.
        to: the epoch that is gone back to.
        epochs: of the whole run.
    """
    stops = sorted({end for end in ends if 0 < end < epochs} | {epochs})
    return max([stops[0], *(to + later - earlier for earlier, later in itertools.pairwise(stops))])
