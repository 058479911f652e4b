"""Image data in memory: records, the split, and `open_data`, which finds a data set by its name or folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from campfire_fx.errors import TrainError
from campfire_fx.train import sources

_SPLIT_SEED = 0  # the split belongs to the data, not to a run: every seed is judged on the same test images
_VALID_SHARE, _TEST_SHARE = 0.1, 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images as uint8 (N, C, H, W) and their classes as int64 (N,)."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Tensor) -> Split:
        return Split(self.images[index], self.targets[index])


@dataclass(frozen=True, slots=True, eq=False)
class ImageData:
    """A data set, split in three.

    Attributes:
        name: as it was asked for.
        classes: names, by index.
        train: what the weights are fitted to.
        valid: held out of the training images, for every choice.
        test: looked at once, for the final table.
        mirrored: whether the mirror image of an image is of the same class.
        mean, std: of each channel over the training images, on the scale 0 to 1.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    valid: Split
    test: Split
    mirrored: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True, slots=True)
class Where:
    """Where data may be looked for, and in which form it is wanted.

    Attributes:
        root: folder for data sets known by name.
        image_size: side to which images are resized; None for the data set's own.
        download: whether a data set that is not there may be fetched from its maker's site.
    """

    root: Path = Path("data")
    image_size: int | None = None
    download: bool = False


_NAMED: dict[str, Callable[[Where], sources.Source]] = {
    "digits": lambda _: sources.digits(),
    "fashion-mnist": lambda where: sources.fashion_mnist(where.root, where.download),
    "cifar10": lambda where: sources.cifar10(where.root, where.download),
}
_DEFAULT_SIZE = {"digits": 16}


def open_data(name: str, where: Where | None = None) -> ImageData:
    """Read a data set into memory.

    Args:
        name: "digits", "fashion-mnist", "cifar10", or a folder of images: with folders train/ and test/ (or val/)
            of one folder per class each, or with one folder per class, of which a quarter becomes the test images.
        where: where to look, and the image size.

    Raises:
        TrainError: the data set is not there, or an image cannot be read.
    """
    where = where or Where()
    if name in _NAMED:
        source = _NAMED[name](where)
    elif Path(name).is_dir():
        source = sources.folder(Path(name), where.image_size)
    else:
        known = ", ".join(_NAMED)
        raise TrainError(f"--data {name}: no such data set or folder. Give one of {known}, or a folder of images.")
    return _split(name, source, where.image_size or _DEFAULT_SIZE.get(name))


def _split(name: str, source: sources.Source, size: int | None) -> ImageData:
    train = Split(resize(source.images, size), source.targets)
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    if source.test is None:
        train, test = _part(train, _TEST_SHARE, generator)
    else:
        test = Split(resize(source.test[0], size), source.test[1])
    train, valid = _part(train, _VALID_SHARE, generator)
    mean, std = zip(*(_moments(train.images[:, channel]) for channel in range(train.images.shape[1])), strict=True)
    return ImageData(name, source.classes, train, valid, test, source.mirrored, mean, std)


def _moments(pixels: Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of uint8 pixels on the scale 0 to 1, by counting: exact, and little memory."""
    counts = torch.bincount(pixels.flatten(), minlength=256).double()
    values = torch.arange(256).double() / 255
    mean = float((counts * values).sum() / counts.sum())
    variance = float((counts * (values - mean) ** 2).sum() / counts.sum())
    return mean, max(variance**0.5, 1e-3)


def _part(split: Split, share: float, generator: torch.Generator) -> tuple[Split, Split]:
    """Divide a split at random into what stays and `share` of it."""
    order = torch.randperm(len(split), generator=generator)
    n = max(1, round(share * len(split)))
    if n >= len(split):
        raise TrainError(f"Data: {len(split)} images are too few to hold some out. Give more images.")
    return split[order[n:]], split[order[:n]]


def resize(images: Tensor, size: int | None) -> Tensor:
    """Resize uint8 images (N, C, H, W) to (N, C, size, size), bilinear."""
    if size is None or tuple(images.shape[2:]) == (size, size):
        return images
    parts = [F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True) for part in images.split(4096)]
    return torch.cat([part.round().clamp(0, 255).byte() for part in parts])
