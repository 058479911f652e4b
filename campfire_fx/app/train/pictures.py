"""Pictures that lie somewhere and are read one at a time, and what becomes of those that cannot be read."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from campfire_fx.app.train.modes import to_mode
from campfire_fx.base.errors import TrainError

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

Read = tuple[Tensor, int] | tuple[str, str]
"""Pixels uint8 (C, H, W) and class; or a picture's name and why it cannot be read."""

_NAMED_AT_ONCE = 10  # more would drown what else is told; all of them are kept


class Pictures(Protocol):
    """Pictures and their classes, by index; nothing is read before it is asked for."""

    def __len__(self) -> int:
        """How many there are, those that cannot be read included."""

    def __getitem__(self, index: int) -> tuple[Image, int]:
        """Return a picture, decoded whole, and its class. Raises any of `UNREADABLE`."""

    def name(self, index: int) -> str:
        """Return what a picture is called where a person may look for it."""


@dataclass(frozen=True, slots=True)
class Files:
    """Image files, their classes, and the mode ("RGB") they are brought to; there may be millions."""

    paths: tuple[str, ...]
    targets: tuple[int, ...]
    mode: str = "RGB"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        from PIL import Image

        with Image.open(self.paths[index]) as image:
            return to_mode(image, self.mode), self.targets[index]

    def name(self, index: int) -> str:
        """Return the path."""
        return self.paths[index]


@dataclass(frozen=True, slots=True)
class Items:
    """The items (image, class) of a data set of torchvision's."""

    title: str
    dataset: Any
    mode: str = "RGB"

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        image, target = self.dataset[index]
        return to_mode(image, self.mode), int(target)

    def name(self, index: int) -> str:
        """Return the data set's name and the position in it."""
        return f"{self.title}[{index}]"


@dataclass(frozen=True, slots=True)
class Listed:
    """The pictures of a data set, none of them read yet.

    Attributes:
        train: training pictures.
        test: test pictures; None where they do not come apart.
        classes: names, by index.
        mirrored: whether the mirror image of a picture is of the same class.
        channels: 3 for colour, 1 for grey.
    """

    train: Pictures
    test: Pictures | None
    classes: tuple[str, ...]
    mirrored: bool = True
    channels: int = 3


@dataclass(frozen=True, slots=True)
class Chosen:
    """Some of the pictures, in the order of `rows`."""

    pictures: Pictures
    rows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        return self.pictures[self.rows[index]]

    def name(self, index: int) -> str:
        """Return what the picture is called there."""
        return self.pictures.name(self.rows[index])


def unreadable() -> tuple[type[Exception], ...]:
    """Return the errors that mean "this file holds no whole image"; PIL has no common base for them."""
    from PIL.Image import DecompressionBombError

    return (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, DecompressionBombError)


def read(pictures: Pictures, index: int, cut: Callable[[Image], Image]) -> Read:
    """Read a picture and cut out of it what is wanted."""
    from torchvision.transforms.v2.functional import pil_to_tensor

    try:
        image, target = pictures[index]
        return pil_to_tensor(cut(image)), target
    except unreadable() as error:
        return pictures.name(index), _told(error)


def _told(error: Exception) -> str:
    """Return the first line of what an error says, without the path that is named beside it, or else its kind."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).partition(" '/")[0].strip().rstrip(".")
    return text.splitlines()[0] if text else type(error).__name__


@dataclass(slots=True)
class Skips:
    """Images that could not be read: each is named once and left out, or the first one stops the run.

    Attributes:
        strict: stop at the first.
        names: those met so far, in the order in which they were.
    """

    strict: bool = False
    names: list[str] = field(default_factory=list)

    def add(self, name: str, reason: str) -> None:
        """Take note of an image.

        Raises:
            TrainError: if strict.
        """
        if self.strict:
            raise TrainError(f"Image at {name}: it cannot be read ({reason}). Remove or replace it, or drop --strict.")
        if name in self.names:
            return
        self.names.append(name)
        if len(self.names) <= _NAMED_AT_ONCE:
            logger.warning("Image at %s: it cannot be read (%s) and is skipped.", name, reason)

    def summary(self) -> str:
        """Say how many there were, and name the first of them."""
        more = len(self.names) - _NAMED_AT_ONCE
        named = ", ".join(self.names[:_NAMED_AT_ONCE]) + (f" and {more} more" if more > 0 else "")
        noun = "image that cannot be read was" if len(self.names) == 1 else "images that cannot be read were"
        return f"{len(self.names):,} {noun} skipped: {named}."
