"""The training loop: any module, any of the data sets, one recipe."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from campfire_fx.errors import TrainError
from campfire_fx.model import SparseModel
from campfire_fx.report.progress import progress
from campfire_fx.train.batches import TrainBatches, plain_batches
from campfire_fx.train.data import ImageData, Split
from campfire_fx.train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch as it went: mean training loss, share of the validation images right, seconds."""

    epoch: int
    loss: float
    valid: float
    seconds: float


def fit(network: nn.Module, data: ImageData, recipe: Recipe, *, seed: int, title: str) -> tuple[Epoch, ...]:
    """Train a network in place by a recipe; a SparseModel's masks ride on the optimizer.

    The same network, data, recipe and seed give the same weights on the same machine.

    Raises:
        TrainError: the loss is no longer finite.
    """
    batches = TrainBatches(data, recipe.batch, seed)
    torch.manual_seed(seed)  # for dropout, where a network has it
    optimizer = SGD(network.parameters(), recipe.rate, recipe.momentum, weight_decay=recipe.decay, nesterov=True)
    if isinstance(network, SparseModel):
        network.attach(optimizer, steps_per_epoch=len(batches))
    epochs: list[Epoch] = []
    with progress(f"Training {title}", total=recipe.epochs * len(batches)) as advance:
        for index in range(recipe.epochs):
            began = time.perf_counter()
            network.train()
            total = 0.0
            for step, (images, targets) in enumerate(batches.epoch(index)):
                rate = recipe.rate_at((index * len(batches) + step) / (recipe.epochs * len(batches)))
                loss = _step(network, optimizer, images, targets, rate)
                if not math.isfinite(loss):
                    raise TrainError(
                        f"Loss of {title} at epoch {index}, step {step}: it is {loss}. Give a lower --learning-rate."
                    )
                total += loss
                advance(1)
            valid = accuracy(network, data.valid, data)
            epochs.append(Epoch(index, total / len(batches), valid, time.perf_counter() - began))
    return tuple(epochs)


def _step(network: nn.Module, optimizer: SGD, images: Tensor, targets: Tensor, rate: float) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss = F.cross_entropy(network(images), targets)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def accuracy(network: nn.Module, split: Split, data: ImageData) -> float:
    """Return the share of a split's images, in [0, 1], whose class the network finds; its mode is left as it was."""
    training = network.training
    found = outputs(network.eval(), split, data).argmax(1)
    network.train(training)
    return float((found == split.targets).double().mean())


@torch.no_grad()
def outputs(network: Callable[[Tensor], Tensor], split: Split, data: ImageData) -> Tensor:
    """Return the outputs (N, classes) for a whole split, of a network or of an exported file."""
    return torch.cat([network(images) for images, _ in plain_batches(split, data)])
