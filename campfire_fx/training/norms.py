"""BatchNorm statistics estimated again, for a network whose weights were changed without training."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from campfire_fx.base.compat import BATCH_NORM
from campfire_fx.base.errors import TrainError


def update_norms(model: nn.Module, batches: Iterable[Any], count: int | None = None) -> nn.Module:
    """Estimate the running mean and variance of every BatchNorm again, from images alone, and return the model.

    Pruning at once changes the inputs of a norm, but not its stored statistics: this repairs part of the damage,
    without labels and without a step of training (docs/after.md has numbers). The weights stay as they are. Everything
    but the norms runs as in evaluation, so no dropout and no auxiliary head is in the way. Every batch counts alike, as
    in `torch.optim.swa_utils.update_bn`, which does the work.

    Args:
        model: any; it is changed in place. Its norms must not have been folded.
        batches: a loader, or any series of batches: of images, or of tuples, lists or dicts whose first entry they are.
            As large as in training, a few hundred images in all; shuffled.
        count: the most batches that are used; None: all.

    Raises:
        TrainError: the model has no BatchNorm with running statistics, or there was no batch.
    """
    norms = [m for m in model.modules() if isinstance(m, BATCH_NORM) and m.track_running_stats]
    if not norms:
        raise TrainError("update_norms: the model has no BatchNorm with running statistics. Leave it out.")
    given = itertools.islice(batches, count)
    first = next(given, None)
    if first is None:
        raise TrainError("update_norms: there was no batch. Give a loader that yields some.")
    parameter = next(model.parameters(), None)
    device = None if parameter is None else parameter.device
    update_bn(_images(itertools.chain([first], given), device), _NormsAlone(model, norms))
    return model


class _NormsAlone(nn.Module):
    """A model of which `train` reaches the norms alone."""

    def __init__(self, model: nn.Module, norms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.model = model
        self.norms = norms
        self.modes = {module: module.training for module in model.modules()}
        self.training = False

    def train(self, mode: bool = True) -> _NormsAlone:
        """Put the norms into training mode and all else into evaluation mode; or everything back as it was."""
        for module, training in self.modes.items():
            module.training = False if mode else training
        for norm in self.norms if mode else ():
            norm.training = True
        return self

    def forward(self, images: Tensor) -> None:
        """Run the model."""
        self.model(images)


def _images(batches: Iterable[Any], device: torch.device | None) -> Iterator[Tensor]:
    for batch in batches:
        images = next(iter(batch.values())) if isinstance(batch, dict) else batch
        yield (images[0] if isinstance(images, (list, tuple)) else images).to(device)
