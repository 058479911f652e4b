"""Images that are read while training goes on, each with a random cut of its own, as ImageNet is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from campfire_fx.app.train.decode import told
from campfire_fx.app.train.pictures import Pictures, Skips, unreadable
from campfire_fx.base.errors import TrainError

if TYPE_CHECKING:
    from PIL.Image import Image

_AREA = (0.08, 1.0)  # share of the picture that a random cut covers
_RATIO = (3 / 4, 4 / 3)  # its width by its height
_TRIES = 10
_PLAIN = -1  # the epoch of a picture that is cut at its centre

Key = tuple[int, int]
"""Epoch and row of a picture."""
Read = tuple[Tensor, int] | tuple[str, str]
"""Pixels (C, side, side) and class; or a picture's name and why it cannot be read."""


@dataclass(frozen=True, slots=True, eq=False)
class Streamed:
    """A split that is read as it is needed.

    Attributes:
        pictures: where from.
        side: of the square that a network is given.
        resize: length of the shorter side to which a picture is brought before its centre is cut out.
        channels: 3 for colour, 1 for grey.
    """

    pictures: Pictures
    side: int
    resize: int
    channels: int = 3

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.channels, self.side, self.side


class _Reader(Dataset[Read]):
    """Reads one picture at a time, in a worker process or in this one."""

    def __init__(self, split: Streamed, seed: int) -> None:
        self.split = split
        self.seed = seed

    def __getitem__(self, key: Key) -> Read:
        epoch, row = key
        try:
            image, target = self.split.pictures[row]
        except unreadable() as error:
            return self.split.pictures.name(row), told(error)
        if epoch == _PLAIN:
            image = centre_cut(image, self.split.resize, self.split.side)
        else:
            # Of this picture in this epoch alone: the same whichever process reads it, and after a resumption.
            image = random_cut(image, self.split.side, np.random.default_rng((self.seed, epoch, row)))
        return torch.from_numpy(np.array(image).reshape(*image.size, -1)).permute(2, 0, 1), target


def read_batches(
    split: Streamed, batches: Iterable[list[Key]], *, seed: int, workers: int, skips: Skips
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield uint8 images (N, C, side, side) and int64 classes (N,) for each list of keys, in this order.

    Pictures that cannot be read are missing from their batch.

    Raises:
        TrainError: no picture of a batch can be read.
    """
    loader = DataLoader(
        _Reader(split, seed),
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
                f"Images of a batch: none of {len(reads)} can be read, {reads[0][0]} the first. Look at it."
            )
        yield torch.stack([pixels for pixels, _ in good]), torch.tensor([target for _, target in good])


def plain_keys(rows: list[int]) -> list[Key]:
    """Return the keys of pictures that are cut at the centre."""
    return [(_PLAIN, row) for row in rows]


def random_cut(image: Image, side: int, random: np.random.Generator) -> Image:
    """Cut a part of random area and form out of a picture, resize it to a square, and flip it half of the time.

    The area is uniform in [0.08, 1] of the picture's and the logarithm of the form in that of [3/4, 4/3]; where ten
    cuts do not fit, the largest one at the centre is taken. It is the augmentation that ResNets are trained with on
    ImageNet (RandomResizedCrop and a flip).
    """
    from PIL import Image as Pil

    cut = image.resize((side, side), Pil.Resampling.BILINEAR, box=_random_box(*image.size, random))
    return cut.transpose(Pil.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else cut


def _random_box(width: int, height: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    low, high = (math.log(ratio) for ratio in _RATIO)
    for _ in range(_TRIES):
        area = width * height * random.uniform(*_AREA)
        ratio = math.exp(random.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = (int(random.integers(0, free + 1)) for free in (width - w, height - h))
            return left, top, left + w, top + h
    w, h = min(width, round(height * _RATIO[1])), min(height, round(width / _RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def centre_cut(image: Image, resize: int, side: int) -> Image:
    """Resize a picture by its shorter side and cut a square out of its centre."""
    from PIL import Image as Pil

    scale = resize / min(image.size)
    width, height = (max(resize, round(length * scale)) for length in image.size)
    image = image.resize((width, height), Pil.Resampling.BILINEAR)
    left, top = (round((length - side) / 2) for length in (width, height))
    return image.crop((left, top, left + side, top + side))
