"""Train a network that may become another one between epochs, and count what that costs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from campfire_fx.app.train.batches import TrainBatches
from campfire_fx.app.train.loop import make_optimizer
from campfire_fx.app.train.recipe import Recipe
from campfire_fx.app.train.seeds import seed_step
from campfire_fx.base.errors import CampfireError
from campfire_fx.report.progress import progress
from pareto.budgets import PASSES
from pareto.setting import Setting


class Trainee:
    """A network in training with its optimizer; methods that change either say how.

    Args:
        network: with its first weights.
        recipe: of its training.
        batches: of its training images.

    Attributes:
        more_macs: multiply-accumulates of what was computed beside training steps.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, batches: TrainBatches) -> None:
        self.network, self.recipe, self.batches = network, recipe, batches
        self.optimizer = make_optimizer(network, recipe)
        self.more_macs = 0

    def epoch(self, epoch: int) -> None:
        """Change network and optimizer as an epoch begins, counted from 0."""

    def finish(self) -> dict[str, float]:
        """Bring `network` to the form in which it is used, after the last epoch; return what else is known of it."""
        return {}


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training was like.

    Attributes:
        losses: mean of each epoch.
        macs: of one image, in each epoch.
        training_macs: of all steps, by the count of `PASSES`.
        cpu_seconds: of this process, for steps and changes of the network.
        seconds: by the clock.
    """

    losses: list[float]
    macs: list[int]
    training_macs: int
    cpu_seconds: float
    seconds: float


def train(trainee: Trainee, setting: Setting, *, seed: int, title: str) -> Trained:
    """Train to the end of the trainee's recipe: the steps that `fit` makes, in its order."""
    recipe, batches = trainee.recipe, trainee.batches
    losses: list[float] = []
    counts: list[int] = []
    clocks = time.process_time(), time.perf_counter()
    counting = 0.0
    with progress(f"Training {title}", total=recipe.epochs * len(batches)) as advance:
        for epoch in range(recipe.epochs):
            trainee.epoch(epoch)
            began = time.process_time()
            counts.append(setting.macs(trainee.network))
            counting += time.process_time() - began
            trainee.network.train()
            total = 0.0
            for step, (images, targets) in enumerate(batches.epoch(epoch), epoch * len(batches)):
                total += _step(trainee, images, targets, step, seed)
                advance(1)
            losses.append(total / len(batches))
            if not math.isfinite(total):
                raise CampfireError(f"Loss of {title} at epoch {epoch}: it is {total}. Give a lower --rate.")
    cpu, seconds = time.process_time() - clocks[0] - counting, time.perf_counter() - clocks[1]
    each = len(batches) * batches.batch * PASSES
    spent = sum(count * each for count in counts) + trainee.more_macs
    return Trained(losses, counts, spent, cpu, seconds)


def _step(trainee: Trainee, images: torch.Tensor, targets: torch.Tensor, step: int, seed: int) -> float:
    recipe = trainee.recipe
    seed_step(seed, step, 0)
    rate = recipe.rate_at(step, len(trainee.batches))
    for group in trainee.optimizer.param_groups:
        group["lr"] = rate
    trainee.optimizer.zero_grad()
    loss = loss_of(trainee.network, images, targets, recipe)
    loss.backward()
    trainee.optimizer.step()
    return float(loss.detach())


def loss_of(network: nn.Module, images: torch.Tensor, targets: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Return the mean cross-entropy of a batch, computed in the recipe's precision."""
    mixed = recipe.precision == "bfloat16"
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        answer = network(images)
    return F.cross_entropy(answer.float() if mixed else answer, targets)
