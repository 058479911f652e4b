"""Images that are read while training goes on, each with a random cut of its own, as ImageNet is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from campfire_fx.app.train.pictures import Pictures, Read, Skips, read
from campfire_fx.app.train.seeds import mixed
from campfire_fx.app.train.split import in_channels
from campfire_fx.base.errors import TrainError

_PLAIN = -1  # the epoch of a picture that is cut at its centre

Key = tuple[int, int]
"""Epoch and row of a picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Streamed:
    """A split that is read as it is needed.

    Attributes:
        pictures: where from.
        side: of the square that a network is given.
        resize: length of the shorter side to which a picture is brought before its centre is cut out.
        channels: 3 for colour, 1 for grey; of grey pictures also any other number of equal ones.
        interpolation: how they are resized, a name of torchvision's InterpolationMode.
    """

    pictures: Pictures
    side: int
    resize: int
    channels: int = 3
    interpolation: str = "bilinear"

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.channels, self.side, self.side


class _PictureReader(Dataset[Read]):
    """Reads one picture at a time, in a worker process or in this one."""

    def __init__(self, split: Streamed, seed: int) -> None:
        from torchvision.transforms import v2

        self.split = split
        self.seed = seed
        # The augmentation that ResNets are trained with on ImageNet, and how they are tested.
        way = v2.InterpolationMode(split.interpolation)
        cut = v2.RandomResizedCrop(split.side, interpolation=way)
        self.random = v2.Compose([cut, v2.RandomHorizontalFlip()])
        self.centre = v2.Compose([v2.Resize(split.resize, way), v2.CenterCrop(split.side)])

    def __getitem__(self, key: Key) -> Read:
        epoch, row = key
        if epoch == _PLAIN:
            return read(self.split.pictures, row, self.centre)
        with torch.random.fork_rng(devices=[]):  # what training draws is another matter
            # Of this picture in this epoch alone: the same whichever process reads it, and after a resumption.
            torch.default_generator.manual_seed(mixed(self.seed, epoch, row))
            return read(self.split.pictures, row, self.random)


def read_batches(
    split: Streamed, batches: Iterable[list[Key]], *, seed: int, workers: int, skips: Skips
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield uint8 images (N, C, side, side) and int64 classes (N,) for each list of keys, in this order.

    Pictures that cannot be read are missing from their batch.

    Raises:
        TrainError: no picture of a batch can be read.
    """
    loader = DataLoader(
        _PictureReader(split, seed),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=list,
        generator=torch.Generator(),  # else it would draw from the one that training uses
    )
    for reads in loader:
        good: list[tuple[Tensor, int]] = []
        for first, second in reads:
            if isinstance(first, str):
                skips.add(first, second)
            else:
                good.append((first, second))
        if not good:
            raise TrainError(
                f"Images of a batch: none of {len(reads)} can be read; the first is {reads[0][0]}. Check it."
            )
        images = in_channels(torch.stack([pixels for pixels, _ in good]), split.channels)
        yield images, torch.tensor([target for _, target in good])


def plain_keys(rows: list[int]) -> list[Key]:
    """Return the keys of pictures that are cut at the centre."""
    return [(_PLAIN, row) for row in rows]
