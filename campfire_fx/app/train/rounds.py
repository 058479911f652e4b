"""Rounds of training: a regime that goes back to early weights has the learning rate of each step go back, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn
from torch.optim import Optimizer

from campfire_fx.app.train.recipe import Recipe
from campfire_fx.base.errors import TrainError
from campfire_fx.sparsity.schedule import Rounds
from campfire_fx.training.model import SparseModel
from campfire_fx.training.rewinding import longest_training, rewinding_of


class RoundsOfTraining:
    """The learning rate of each step, and what goes back as epochs begin, where the regime asks for it.

    Within the epochs of the recipe: from each rewinding on, the rate is that of a recipe as long as the longest round.

    Args:
        network: that is trained.
        optimizer: its own.
        recipe: of the whole run.
        per_epoch: steps of an epoch.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer, recipe: Recipe, per_epoch: int) -> None:
        self._rewinding = rewinding_of(network, optimizer) if isinstance(network, SparseModel) else None
        self._recipe, self._per_epoch = recipe, per_epoch
        if self._rewinding is not None:
            schedules = [layer.assignment.schedule for layer in self._rewinding.model._life_cycle.state.ruled.values()]
            ends = [end for one in schedules if isinstance(one, Rounds) for end in one.ends]
            self._recipe = replace(recipe, epochs=longest_training(ends, self._rewinding.to, recipe.epochs))

    def epoch(self, step: int) -> None:
        """Begin an epoch, or go on in it after so many steps."""
        if self._rewinding is not None and step == 0:
            self._rewinding.epoch()

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0 over all epochs; of this round, or the one before."""
        back = 0 if self._rewinding is None else self._rewinding.epochs_back
        return self._recipe.rate_at(max(0, step - back * self._per_epoch), self._per_epoch)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint of the run holds of it."""
        return {} if self._rewinding is None else {"rewinding": self._rewinding.state_dict()}

    def load(self, content: Mapping[str, Any]) -> None:
        """Take over what a checkpoint holds."""
        if self._rewinding is not None:
            self._rewinding.load_state_dict(content["rewinding"])

    def require_none(self, option: str) -> None:
        """Raise a TrainError if the training goes back to early weights: an option does not go with that."""
        if self._rewinding is not None:
            raise TrainError(f"{option}: this regime rewinds the weights of the whole network. Leave it out.")
