"""A split in memory: images as a source has them, brought to the form that a network is given as they are taken out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images and their classes, in memory at the size of their source: enlarged, they might not fit.

    Attributes:
        stored: uint8 (N, C, H, W).
        targets: int64 (N,).
        side: of the square that a network is given; None: as stored.
        channels: that a network is given, of grey images any number of equal ones; None: as stored.
    """

    stored: Tensor
    targets: Tensor
    side: int | None = None
    channels: int | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Tensor | slice) -> Split:
        return replace(self, stored=self.stored[index], targets=self.targets[index])

    @property
    def images(self) -> Tensor:
        """All images as a network is given them, uint8 (N, C, H, W); take a part of the split first."""
        return in_channels(resize(self.stored, self.side), self.channels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        channels, height, width = self.stored.shape[1:]
        return self.channels or channels, self.side or height, self.side or width


def resize(images: Tensor, side: int | None) -> Tensor:
    """Resize uint8 images (N, C, H, W) to (N, C, side, side), bilinear."""
    if side is None or tuple(images.shape[2:]) == (side, side):
        return images
    resized = F.interpolate(images.float(), (side, side), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def in_channels(images: Tensor, channels: int | None) -> Tensor:
    """Give grey images (N, 1, H, W) so many equal channels; others have theirs already."""
    return images if channels is None else images.expand(-1, channels, -1, -1)
