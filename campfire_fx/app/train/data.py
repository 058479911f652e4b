"""Image data: records, the split, and `open_data`, which finds a data set by its name or folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from campfire_fx.app.train import sources
from campfire_fx.app.train.decode import decode
from campfire_fx.app.train.folders import list_folder
from campfire_fx.app.train.known_sets import KNOWN_SETS, open_set
from campfire_fx.app.train.pictures import Chosen, Listed, Pictures, Skips
from campfire_fx.app.train.streamed import Streamed
from campfire_fx.base.errors import TrainError

_SPLIT_SEED = 0  # the split belongs to the data, not to a run: every seed is judged on the same test images
_TEST_SHARE = 0.25
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STREAMED_SIZE = 224


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images as uint8 (N, C, H, W) and their classes as int64 (N,), in memory."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Tensor) -> Split:
        return Split(self.images[index], self.targets[index])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True, slots=True, eq=False)
class ImageData:
    """A data set, split in three.

    Attributes:
        name: as it was asked for.
        classes: names, by index.
        train: what the weights are fitted to.
        valid: held out of the training images, for every choice; the test images where none were held out.
        test: looked at once, for the final table.
        mirrored: whether the mirror image of an image is of the same class.
        mean, std: of each channel, on the scale 0 to 1; over the training images where they are in memory.
        skips: images that could not be read.
    """

    name: str
    classes: tuple[str, ...]
    train: Split | Streamed
    valid: Split | Streamed
    test: Split | Streamed
    mirrored: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    skips: Skips = field(default_factory=Skips)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.train.shape


@dataclass(frozen=True, slots=True)
class Where:
    """Where data may be looked for, and in which form it is wanted.

    Attributes:
        root: folder for data sets known by name.
        image_size: side to which images are brought; None for the data set's own.
        download: whether a data set that is not there may be fetched from its maker's site.
        streamed: read images as they are needed, with random cuts; else all of them are held in memory.
        resize: streamed: the shorter side before the centre is cut out; None: 8/7 of image_size, as 256 is of 224.
        held_out: share of the training images that become the validation images, in [0, 1).
        strict: stop at the first image that cannot be read.
        classes: how many classes a recipe is for; None: any number.
        recipe: its name, for the error if there are others.
    """

    root: Path = Path("data")
    image_size: int | None = None
    download: bool = False
    streamed: bool = False
    resize: int | None = None
    held_out: float = 0.1
    strict: bool = False
    classes: int | None = None
    recipe: str = ""


_IN_MEMORY: dict[str, Callable[[Where], sources.Source]] = {
    "digits": lambda _: sources.digits(),
    "fashion-mnist": lambda where: sources.fashion_mnist(where.root, where.download),
    "cifar10": lambda where: sources.cifar10(where.root, where.download),
}
_DEFAULT_SIZE = {"digits": 16}
NAMES = (*_IN_MEMORY, *KNOWN_SETS)


def open_data(name: str, where: Where | None = None) -> ImageData:
    """Open a data set.

    Args:
        name: one of `NAMES`, or a folder of images as `list_folder` takes them; where test images do not come apart, a
            quarter of the images becomes them.
        where: where to look, and in which form.

    Raises:
        TrainError: the data set is not there, is not the recipe's, or none of its images can be read.
    """
    where = where or Where()
    if name in _IN_MEMORY:
        if where.streamed:
            what = f"Recipe {where.recipe} at {name}" if where.recipe else f"--data {name}"
            raise TrainError(f"{what}: its images are read at once and too small to cut. Give --augment shift.")
        source = _IN_MEMORY[name](where)
        _check_recipe(name, source.classes, where)
        return _split(name, source, where, Skips(where.strict))
    listed = _listed(name, where)
    _check_recipe(name, listed.classes, where)
    skips = Skips(where.strict)
    if where.streamed:
        return _stream(name, listed, where, skips)
    return _split(name, _decoded(name, listed, where, skips), where, skips)


def _listed(name: str, where: Where) -> Listed:
    if name in KNOWN_SETS:
        return open_set(name, where.root, where.download)
    if not Path(name).is_dir():
        raise TrainError(
            f"--data {name}: no such data set or folder. Give one of {', '.join(NAMES)}, or a folder of images."
        )
    sources.need("torchvision", "torchvision")
    return list_folder(Path(name))


def _check_recipe(name: str, classes: tuple[str, ...], where: Where) -> None:
    if where.classes is not None and len(classes) != where.classes:
        raise TrainError(
            f"Recipe {where.recipe} at {name}: it is for {where.classes:,} classes, the data have {len(classes):,}."
            f" Give its data set with --data, or drop --recipe."
        )


def _decoded(name: str, listed: Listed, where: Where, skips: Skips) -> sources.Source:
    title = Path(name).name
    images, targets = decode(listed.train, title, where.image_size, skips=skips)
    test = None
    if listed.test is not None:
        test = decode(listed.test, f"{title} (test)", images.shape[-1], skips=skips)
    return sources.Source(images, targets, test, listed.classes, listed.mirrored)


def _split(name: str, source: sources.Source, where: Where, skips: Skips) -> ImageData:
    size = where.image_size or _DEFAULT_SIZE.get(name)
    train = Split(resize(source.images, size), source.targets)
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    if source.test is None:
        train, test = _part(train, _TEST_SHARE, generator)
    else:
        test = Split(resize(source.test[0], size), source.test[1])
    train, valid = _part(train, where.held_out, generator) if where.held_out else (train, test)
    mean, std = zip(*(_moments(train.images[:, channel]) for channel in range(train.images.shape[1])), strict=True)
    return ImageData(name, source.classes, train, valid, test, source.mirrored, mean, std, skips)


def _stream(name: str, listed: Listed, where: Where, skips: Skips) -> ImageData:
    """Split pictures that are read later."""
    if not listed.mirrored:
        raise TrainError(f"--data {name}: mirror images belong to other classes. Give --augment shift.")
    side = where.image_size or _STREAMED_SIZE
    shorter = where.resize or round(side * 8 / 7)
    if shorter < side:
        raise TrainError(f"Resize {shorter}: the cut of {side} x {side} does not fit. Give --resize of {side} or more.")
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    train, test = listed.train, listed.test
    if test is None:
        train, test = _chosen(train, _TEST_SHARE, generator)
    train, valid = _chosen(train, where.held_out, generator) if where.held_out else (train, test)
    fit, tested = (Streamed(part, side, shorter, listed.channels) for part in (train, test))
    watched = Streamed(valid, side, shorter, listed.channels) if where.held_out else tested
    mean, std = _IMAGENET_MEAN[: listed.channels], _IMAGENET_STD[: listed.channels]
    return ImageData(name, listed.classes, fit, watched, tested, listed.mirrored, mean, std, skips)


def _moments(pixels: Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of uint8 pixels on the scale 0 to 1, by counting: exact, and little memory."""
    counts = torch.bincount(pixels.flatten(), minlength=256).double()
    values = torch.arange(256).double() / 255
    mean = float((counts * values).sum() / counts.sum())
    variance = float((counts * (values - mean) ** 2).sum() / counts.sum())
    return mean, max(variance**0.5, 1e-3)


def _part(split: Split, share: float, generator: torch.Generator) -> tuple[Split, Split]:
    """Divide a split at random into what stays and `share` of it."""
    stays, goes = _rows(len(split), share, generator)
    return split[stays], split[goes]


def _chosen(pictures: Pictures, share: float, generator: torch.Generator) -> tuple[Pictures, Pictures]:
    """Divide pictures at random into those that stay and `share` of them."""
    stays, goes = _rows(len(pictures), share, generator)
    return Chosen(pictures, tuple(stays.tolist())), Chosen(pictures, tuple(goes.tolist()))


def _rows(count: int, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    order = torch.randperm(count, generator=generator)
    n = max(1, round(share * count))
    if n >= count:
        raise TrainError(f"Data: {count} images are too few to hold some out. Give more images.")
    return order[n:], order[:n]


def resize(images: Tensor, size: int | None) -> Tensor:
    """Resize uint8 images (N, C, H, W) to (N, C, size, size), bilinear."""
    if size is None or tuple(images.shape[2:]) == (size, size):
        return images
    parts = [F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True) for part in images.split(4096)]
    return torch.cat([part.round().clamp(0, 255).byte() for part in parts])
