"""Batches of a split: shuffled, shifted, mirrored and normalised on the fly, reproducible by seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from campfire_fx.train.data import ImageData, Split

_SHIFT = 8  # an image moves by at most an eighth of its side


class TrainBatches:
    """The training images of one epoch after another, in a new random order and position each.

    Epoch e of seed s is the same whenever it is asked for, so a resumed run sees what the uninterrupted one saw.
    """

    def __init__(self, data: ImageData, batch: int, seed: int) -> None:
        self.data = data
        self.batch = min(batch, len(data.train))
        self.seed = seed

    def __len__(self) -> int:
        """Batches per epoch; the odd images at the end of the order wait for another epoch."""
        return len(self.data.train) // self.batch

    def epoch(self, index: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images float32 (N, C, H, W), classes int64 (N,))."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        order = torch.randperm(len(self.data.train), generator=generator)
        for rows in order[: len(self) * self.batch].split(self.batch):
            part = self.data.train[rows]
            images = shift(part.images, generator)
            if self.data.mirrored:
                images = mirror(images, generator)
            yield normalise(images, self.data), part.targets


def plain_batches(split: Split, data: ImageData, batch: int = 512) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a split in its own order, normalised and otherwise as it is."""
    for images, targets in zip(split.images.split(batch), split.targets.split(batch), strict=True):
        yield normalise(images, data), targets


def normalise(images: Tensor, data: ImageData) -> Tensor:
    """Bring uint8 images to float32 with mean 0 and standard deviation 1 in each channel."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))
    return (images.float() / 255 - mean) / std


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move each image (N, C, H, W) by its own random whole number of pixels, zeros coming in from the edges."""
    n, _, height, width = images.shape
    reach = max(1, height // _SHIFT)
    padded = F.pad(images, (reach,) * 4)
    down, right = torch.randint(0, 2 * reach + 1, (2, n, 1), generator=generator)
    rows = (down + torch.arange(height)).view(n, 1, height, 1)
    columns = (right + torch.arange(width)).view(n, 1, 1, width)
    return padded[torch.arange(n).view(n, 1, 1, 1), torch.arange(images.shape[1]).view(1, -1, 1, 1), rows, columns]


def mirror(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip each image left to right with probability one half."""
    flipped = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
