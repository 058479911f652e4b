"""Image data: records, the split, and `open_data`, which finds a data set by its name or folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from campfire_fx.app.train import sources
from campfire_fx.app.train.decode import decode
from campfire_fx.app.train.folders import list_folder
from campfire_fx.app.train.known_sets import KNOWN_SETS, open_set
from campfire_fx.app.train.pictures import Chosen, Listed, Pictures, Skips
from campfire_fx.app.train.split import Split
from campfire_fx.app.train.streamed import Streamed
from campfire_fx.base.errors import TrainError

_SPLIT_SEED = 0  # the split belongs to the data, not to a run: every seed is judged on the same test images
_TEST_SHARE = 0.25
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STREAMED_SIZE = 224
_AT_ONCE = 4096


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

    def given_as(
        self, channels: int, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
    ) -> ImageData:
        """Return the same images in the form that trained weights know: grey in equal channels, another normalisation.

        Args:
            channels: of the images; grey ones can have any number, colour ones only their own.
            mean: of each channel; None: as it is.
            std: of each channel; None: as it is.
        """
        mean, std = (
            tuple(old) * (channels // len(old)) if new is None else tuple(new)
            for new, old in ((mean, self.mean), (std, self.std))
        )
        train, valid, test = (replace(part, channels=channels) for part in (self.train, self.valid, self.test))
        valid = test if self.valid is self.test else valid
        return replace(self, train=train, valid=valid, test=test, mean=mean, std=std)


@dataclass(frozen=True, slots=True)
class Where:
    """Where data may be looked for, and in which form it is wanted.

    Attributes:
        root: folder for data sets known by name.
        image_size: side to which images are brought; None for the data set's own.
        download: whether a data set that is not there may be fetched from its maker's site.
        streamed: read images as they are needed, with random cuts; else all of them are held in memory.
        resize: streamed: the shorter side before the centre is cut out; None: 8/7 of image_size, as 256 is of 224.
        interpolation: streamed: how pictures are resized, a name of torchvision's InterpolationMode; None: bilinear.
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
    interpolation: str | None = None
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


def can_stream(name: str) -> bool:
    """Say whether the images of a data set can be read as they are needed, with random cuts, mirrored."""
    return name not in _IN_MEMORY and (name not in KNOWN_SETS or KNOWN_SETS[name].mirrored)


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
            raise TrainError(f"{what}: its images are too small for random crops. Give --augment shift.")
        source = _IN_MEMORY[name](where)
        _check_recipe(name, source.classes, where)
        return _split(name, source, where, Skips(where.strict))
    listed = _listed(name, where)
    _check_recipe(name, listed.classes, where)
    skips = Skips(where.strict)
    if where.streamed:
        return _stream(name, listed, where, skips)
    return _split(name, _decoded(name, listed, where, skips), where, skips)


def check_data(name: str) -> None:
    """Raise the TrainError of `open_data` where there is no such data set or folder."""
    if name not in NAMES and not Path(name).is_dir():
        raise TrainError(
            f"--data {name}: no such data set or folder. Give one of {', '.join(NAMES)}, or a folder of images."
        )


def _listed(name: str, where: Where) -> Listed:
    check_data(name)
    if name in KNOWN_SETS:
        return open_set(name, where.root, where.download)
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
    train = Split(source.images, source.targets, size)
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    if source.test is None:
        train, test = _part(train, _TEST_SHARE, generator)
    else:
        test = Split(*source.test, size)
    train, valid = _part(train, where.held_out, generator) if where.held_out else (train, test)
    mean, std = _moments(train)
    return ImageData(name, source.classes, train, valid, test, source.mirrored, mean, std, skips)


def _stream(name: str, listed: Listed, where: Where, skips: Skips) -> ImageData:
    """Split pictures that are read later."""
    if not listed.mirrored:
        raise TrainError(f"--data {name}: a mirrored image can belong to another class. Give --augment shift.")
    side = where.image_size or _STREAMED_SIZE
    shorter = where.resize or round(side * 8 / 7)
    if shorter < side:
        raise TrainError(f"Resize {shorter}: the cut of {side} x {side} does not fit. Give --resize of {side} or more.")
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    train, test = listed.train, listed.test
    if test is None:
        train, test = _chosen(train, _TEST_SHARE, generator)
    train, valid = _chosen(train, where.held_out, generator) if where.held_out else (train, test)
    whole = Streamed(train, side, shorter, listed.channels, where.interpolation or "bilinear")
    tested = replace(whole, pictures=test)
    watched = replace(whole, pictures=valid) if where.held_out else tested
    mean, std = _IMAGENET_MEAN[: listed.channels], _IMAGENET_STD[: listed.channels]
    return ImageData(name, listed.classes, whole, watched, tested, listed.mirrored, mean, std, skips)


def _moments(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel on the scale 0 to 1, by counting: exact, and little memory."""
    counts = torch.zeros(split.shape[0], 256, dtype=torch.float64)
    for start in range(0, len(split), _AT_ONCE):
        for row, pixels in zip(counts, split[start : start + _AT_ONCE].images.transpose(0, 1), strict=True):
            row += torch.bincount(pixels.flatten(), minlength=256)
    values = torch.arange(256).double() / 255
    mean = (counts * values).sum(1) / counts.sum(1)
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1)
    return tuple(mean.tolist()), tuple(variance.sqrt().clamp(min=1e-3).tolist())


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
