"""torchvision's data sets for classification, by name: one row for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campfire_fx.app.train.pictures import Items, Listed
from campfire_fx.app.train.sources import need
from campfire_fx.base.errors import TrainError

_TRAIN_FLAG = ({"train": True}, {"train": False})
_SPLIT = ({"split": "train"}, {"split": "test"})


@dataclass(frozen=True, slots=True)
class KnownSet:
    """How a data set of torchvision's is opened.

    Attributes:
        kind: its class in torchvision.datasets.
        parts: the arguments that choose the training and the test images.
        count: classes, where the data set does not name them.
        mode: "L" grey or "RGB".
        mirrored: whether the mirror image of an image is of the same class.
        options: further arguments.
    """

    kind: str
    parts: tuple[Mapping[str, Any], Mapping[str, Any]]
    count: int
    mode: str = "RGB"
    mirrored: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


KNOWN_SETS: dict[str, KnownSet] = {
    "mnist": KnownSet("MNIST", _TRAIN_FLAG, 10, "L", mirrored=False),
    "kmnist": KnownSet("KMNIST", _TRAIN_FLAG, 10, "L", mirrored=False),
    "cifar100": KnownSet("CIFAR100", _TRAIN_FLAG, 100),
    "svhn": KnownSet("SVHN", _SPLIT, 10, mirrored=False),
    "stl10": KnownSet("STL10", _SPLIT, 10),
    "gtsrb": KnownSet("GTSRB", _SPLIT, 43, mirrored=False),
    "food101": KnownSet("Food101", _SPLIT, 101),
    "flowers102": KnownSet("Flowers102", _SPLIT, 102),
    "pets": KnownSet("OxfordIIITPet", ({"split": "trainval"}, {"split": "test"}), 37),
    "textures": KnownSet("DTD", _SPLIT, 47),
    "aircraft": KnownSet("FGVCAircraft", ({"split": "trainval"}, {"split": "test"}), 100),
    "imagenette": KnownSet("Imagenette", ({"split": "train"}, {"split": "val"}), 10),
}


def open_set(name: str, root: Path, download: bool) -> Listed:
    """Open a data set of `KNOWN_SETS`; images are read later.

    Raises:
        TrainError: it is not there, or torchvision is not installed.
    """
    need("torchvision", "torchvision")
    from torchvision import datasets

    known = KNOWN_SETS[name]
    kind = getattr(datasets, known.kind)
    try:
        train, test = (kind(str(root), download=download, **part, **known.options) for part in known.parts)
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise TrainError(
            f"{known.kind} at {root}: it cannot be opened ({reason}). Give --download, --data-root with the folder that"
            f" torchvision.datasets.{known.kind} takes, or --data with a folder of images."
        ) from error
    named = getattr(train, "classes", None) or range(known.count)
    fit, tested = (Items(name, part, known.mode) for part in (train, test))
    return Listed(fit, tested, tuple(map(str, named)), known.mirrored, 1 if known.mode == "L" else 3)
