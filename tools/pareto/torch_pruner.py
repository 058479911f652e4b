"""Torch-Pruning's side: coupled channels by its group importance, all layers ranked together, cut in training."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from campfire_fx.app.train.batches import TrainBatches
from campfire_fx.app.train.loop import make_optimizer
from campfire_fx.app.train.recipe import Recipe
from campfire_fx.base.errors import CampfireError
from campfire_fx.cost.measure import macs
from pareto.budgets import GRADIENT_BATCHES, PASSES, Shares
from pareto.setting import Setting
from pareto.training import Trainee, loss_of

FLOOR = 0.15  # of the channels of a layer: once it has fewer, it is cut no more
_STEPS = 400  # from all channels to none


class TorchPruned(Trainee):
    """A network that Torch-Pruning cuts to a planned share of its MACs as epochs begin.

    Channels go in steps of 1/400 of all until the share is reached, and are ranked anew for each. Momenta are cut as
    the weights are: the same cuts are made in a copy of the network that holds them in the place of its weights.

    Args:
        network: with its first weights.
        recipe: of its training.
        batches: of its training images.
        setting: for an example, and the number of classes.
        importance: "magnitude" (L2 norm over the group) or "taylor" (|w * gradient| over the group).
        shares: of the dense MACs, by epoch.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        batches: TrainBatches,
        *,
        setting: Setting,
        importance: str,
        shares: Shares,
    ) -> None:
        import torch_pruning

        super().__init__(network, recipe, batches)
        self.shares, self.data_score = shares, importance == "taylor"
        criteria = torch_pruning.pruner.importance
        criterion = criteria.GroupTaylorImportance() if self.data_score else criteria.GroupMagnitudeImportance(p=2)
        head = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
        self.pruner: Any = torch_pruning.pruner.BasePruner(
            network,
            setting.example,
            importance=criterion,
            global_pruning=True,
            pruning_ratio=1.0,
            max_pruning_ratio=1 - FLOOR,
            iterative_steps=_STEPS,
            ignored_layers=[head],
        )
        self.momenta = copy.deepcopy(network)
        self.follower: Any = torch_pruning.DependencyGraph().build_dependency(self.momenta, setting.example)
        # What one weight costs: its layer's places, however many channels are left.
        weights = {name: layer.weight.numel() for name, layer in _layers(network).items()}
        counted = macs(network, (setting.example,)).per_layer
        self.places = {name: counted[name] // weights[name] for name in weights}
        self.dense = self.count()

    def count(self) -> int:
        """Return the MACs of one image."""
        return sum(self.places[name] * layer.weight.numel() for name, layer in _layers(self.network).items())

    def epoch(self, epoch: int) -> None:
        """Cut to the share that is planned."""
        wanted = self.shares(epoch) * self.dense
        if self.count() <= wanted:
            return
        if self.data_score:
            self._gradients(epoch)
        self._keep_momenta()
        known = len(self.pruner.pruning_history())
        while self.count() > wanted:
            if self.pruner.current_step == _STEPS:
                raise CampfireError(
                    f"Torch-Pruning at epoch {epoch}: it cannot cut to {self.shares(epoch):.3g} of the MACs, a layer"
                    f" keeping {FLOOR:g} of its channels. Give a larger target."
                )
            self.pruner.step()
        self.follower.load_pruning_history(self.pruner.pruning_history()[known:])
        self._new_optimizer()

    def finish(self) -> dict[str, float]:
        """Cut to the share that is planned after the last epoch, where the era ends with the training."""
        self.epoch(self.recipe.epochs)
        return super().finish()

    def _gradients(self, epoch: int) -> None:
        """Gather gradients over the first images of the epoch that begins, in evaluation mode, as its makers do."""
        self.network.eval()
        self.optimizer.zero_grad()
        for _, (images, targets) in zip(range(GRADIENT_BATCHES), self.batches.epoch(epoch), strict=False):
            loss_of(self.network, images, targets, self.recipe).backward()
            self.more_macs += PASSES * len(images) * self.count()

    @torch.no_grad()
    def _keep_momenta(self) -> None:
        for weight, momentum in zip(self.network.parameters(), self.momenta.parameters(), strict=True):
            state = self.optimizer.state[weight]
            momentum.copy_(state["momentum_buffer"] if "momentum_buffer" in state else torch.zeros_like(weight))

    def _new_optimizer(self) -> None:
        self.network.to(memory_format=torch.channels_last)
        self.momenta.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self.network, self.recipe)
        for weight, momentum in zip(self.network.parameters(), self.momenta.parameters(), strict=True):
            weight.grad = None
            self.optimizer.state[weight]["momentum_buffer"] = momentum.detach().clone()


def _layers(network: nn.Module) -> dict[str, Any]:
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear))}
