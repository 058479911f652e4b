"""Where images in memory come from: a package, or files of a known format. One function per source."""

from __future__ import annotations

import gzip
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from campfire_fx.base.errors import TrainError
from campfire_fx.base.hints import install_command

_FASHION_CLASSES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
_FASHION_FOLDERS = ("fashion-mnist", "FashionMNIST/raw", "")
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # the Debian package dataset-fashion-mnist


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What a source holds: uint8 images (N, C, H, W), int64 classes (N,), and test images if they come apart."""

    images: Tensor
    targets: Tensor
    test: tuple[Tensor, Tensor] | None
    classes: tuple[str, ...]
    mirrored: bool


def digits() -> Source:
    """Read the 1,797 handwritten digits that scikit-learn ships: grey, 8 x 8."""
    need("sklearn", "scikit-learn")
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images = torch.from_numpy(bunch.images * (255 / 16)).round().byte().unsqueeze(1)
    targets = torch.from_numpy(bunch.target).long()
    return Source(images, targets, None, tuple("0123456789"), mirrored=False)


def fashion_mnist(root: Path, download: bool) -> Source:
    """Read Fashion-MNIST, 60,000 + 10,000 grey images of 28 x 28, from its idx files, packed or not."""
    if download:
        need("torchvision", "torchvision")
        from torchvision.datasets import FashionMNIST

        FashionMNIST(str(root), download=True)
    for folder in [*(root / name for name in _FASHION_FOLDERS), _DEBIAN]:
        if any(folder.glob("train-images-idx3-ubyte*")):
            (images, targets), test = (_idx_pair(folder, part) for part in ("train", "t10k"))
            return Source(images, targets, test, _FASHION_CLASSES, mirrored=True)
    raise TrainError(
        f"Fashion-MNIST at {root}: not there. Give --download, or --data-root with the folder of its idx files"
        f" (the Debian package dataset-fashion-mnist is found where it installs them)."
    )


def cifar10(root: Path, download: bool) -> Source:
    """Read CIFAR-10, 50,000 + 10,000 colour images of 32 x 32, in the form of its authors' Python archive."""
    need("torchvision", "torchvision")
    from torchvision.datasets import CIFAR10

    try:
        parts = [CIFAR10(str(root), train=train, download=download) for train in (True, False)]
    except RuntimeError as error:
        raise TrainError(
            f"CIFAR-10 at {root}: not there. Give --download, --data-root with the folder that holds"
            f" cifar-10-batches-py, or --data with a folder of images."
        ) from error
    (images, targets), test = (
        (torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets)) for part in parts
    )
    return Source(images, targets, test, tuple(parts[0].classes), mirrored=True)


def _idx_pair(root: Path, part: str) -> tuple[Tensor, Tensor]:
    images = read_idx(root / f"{part}-images-idx3-ubyte")
    return images.unsqueeze(1), read_idx(root / f"{part}-labels-idx1-ubyte").long()


def read_idx(path: Path) -> Tensor:
    """Read an idx file of bytes, packed (.gz) or not: two zeros, a type, the rank, each size as 4 bytes, the data."""
    packed = path.with_name(path.name + ".gz")
    content = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
    if content[:3] != b"\x00\x00\x08":
        raise TrainError(f"Data file at {path}: it is not an idx file of bytes. Fetch it again.")
    rank = content[3]
    sizes = np.frombuffer(content, ">i4", rank, 4).tolist()
    return torch.from_numpy(np.frombuffer(content, np.uint8, -1, 4 + 4 * rank).reshape(sizes).copy())


def need(module: str, package: str) -> None:
    """Raise a TrainError that names a package if a module of it is not installed."""
    if importlib.util.find_spec(module) is None:
        raise TrainError(f"This data set needs {package}, which is not installed. Run {install_command('train')}.")
