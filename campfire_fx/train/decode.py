"""Folders of images as uint8 tensors, decoded once and kept in a cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from campfire_fx.errors import TrainError
from campfire_fx.report.progress import progress

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_LARGEST_DEFAULT = 64


def decode(root: Path, image_size: int | None = None) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Decode the images under a folder that has one folder per class.

    Args:
        root: its folders, sorted by name, are the classes; images are found in them at any depth.
        image_size: side of the square images. None: the shorter side of the first image, but 64 at most.

    Returns:
        images uint8 (N, 3, image_size, image_size), classes int64 (N,), and the names of the classes. An image of
        another form is resized by its shorter side and cut at the centre.

    Raises:
        TrainError: there is no image, or one cannot be read.
    """
    classes = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir()))
    files = [(path, index) for index, name in enumerate(classes) for path in _images(root / name)]
    if not files:
        raise TrainError(f"Images at {root}: none were found. Give a folder that has one folder of images per class.")
    size = image_size or min(*_size(files[0][0]), _LARGEST_DEFAULT)
    targets = torch.tensor([index for _, index in files])
    cache = _cache_file(root, files, size)
    if cache.exists():
        return torch.load(cache, weights_only=True), targets, classes
    images = _read_all([path for path, _ in files], size, root)
    _write(images, cache)
    return images, targets, classes


def _images(root: Path) -> Iterator[Path]:
    return iter(sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES))


def _read_all(paths: list[Path], size: int, root: Path) -> Tensor:
    images = torch.empty(len(paths), 3, size, size, dtype=torch.uint8)
    with ThreadPoolExecutor() as pool, progress(f"Reading {root.name}", total=len(paths)) as advance:
        for index, pixels in enumerate(pool.map(lambda path: _read(path, size), paths)):
            images[index] = torch.from_numpy(pixels).permute(2, 0, 1)
            advance(1)
    return images


def _size(path: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise _unreadable(path, error) from error


def _read(path: Path, size: int) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            return np.array(ImageOps.fit(image.convert("RGB"), (size, size)))
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> TrainError:
    return TrainError(f"Image at {path}: it cannot be read ({error}). Remove or replace it.")


def _cache_file(root: Path, files: list[tuple[Path, int]], size: int) -> Path:
    """Name the cache after everything that decides its content: which files, how long and new each is, which size."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(f"{root.resolve()} {size}".encode())
    for path, _ in files:
        facts = path.stat()
        digest.update(f"{path} {facts.st_size} {facts.st_mtime_ns}".encode())
    return base / "campfire_fx" / f"{root.name}-{size}-{digest.hexdigest()[:16]}.pt"


def _write(images: Tensor, path: Path) -> None:
    """Write whole or not at all; without a place to write to, the next run decodes again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        torch.save(images, partial)
        partial.replace(path)
    except (OSError, RuntimeError):  # torch reports a full disk as a RuntimeError
        return
