"""Pictures as uint8 tensors in memory, decoded once and, where they are files, kept in a cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from campfire_fx.app.train.pictures import Files, Pictures, Skips, read, unreadable
from campfire_fx.base.disk.archive import Unreadable, load_archive, save_archive
from campfire_fx.base.errors import TrainError
from campfire_fx.report.numbers import size as bytes_told
from campfire_fx.report.progress import progress

_LARGEST_DEFAULT = 64
_MOST_BYTES = 16 * 2**30
_AT_ONCE = 512


def decode(pictures: Pictures, title: str, size: int | None = None, *, skips: Skips) -> tuple[Tensor, Tensor]:
    """Decode pictures into memory; those that cannot be read are left out.

    Args:
        pictures: which.
        title: what they are called in the progress bar and in errors.
        size: side of the square images. None: the shorter side of the first image, but 64 at most.
        skips: takes note of those that cannot be read.

    Returns:
        Images uint8 (N, C, size, size) and classes int64 (N,). An image of another form is resized by its shorter side
        and cut at the centre.

    Raises:
        TrainError: there is no image that can be read, or they would fill the memory.
    """
    side = size or _side(pictures, title)
    needed = len(pictures) * 3 * side * side
    if needed > _MOST_BYTES:
        raise TrainError(
            f"Images of {title}: {len(pictures):,} of {side} x {side} would take {bytes_told(needed)} of memory."
            f" Give --augment crop, which reads them as they are needed, or a smaller --image-size."
        )
    cache = _cache_file(pictures, side) if isinstance(pictures, Files) else None
    content = _cached(cache) or _read_all(pictures, side, title)
    for index, reason in content["unread"]:
        skips.add(pictures.name(index), reason)
    if not len(content["targets"]):
        raise TrainError(f"Images of {title}: none of {len(pictures):,} can be read. Give others.")
    if cache is not None and not cache.exists():
        _write(content, cache)
    return content["images"], content["targets"]


def _side(pictures: Pictures, title: str) -> int:
    for index in range(len(pictures)):
        try:
            return min(*pictures[index][0].size, _LARGEST_DEFAULT)
        except unreadable():
            continue
    raise TrainError(f"Images of {title}: none of {len(pictures):,} can be read. Give others.")


def _read_all(pictures: Pictures, side: int, title: str) -> dict[str, Any]:
    """Return "images", "targets", and "unread": pairs of an index and a reason."""
    from PIL import ImageOps

    images: list[Tensor] = []
    targets: list[int] = []
    unread: list[tuple[int, str]] = []
    fit = partial(ImageOps.fit, size=(side, side))
    with ThreadPoolExecutor() as pool, progress(f"Reading {title}", total=len(pictures)) as advance:
        for start in range(0, len(pictures), _AT_ONCE):  # not all at once: what waits is held in memory
            rows, part = range(start, min(start + _AT_ONCE, len(pictures))), list[Tensor]()
            for index, (pixels, found) in zip(rows, pool.map(lambda i: read(pictures, i, fit), rows), strict=True):
                if isinstance(pixels, Tensor):
                    part.append(pixels)
                    targets.append(int(found))
                else:
                    unread.append((index, str(found)))
            images += [torch.stack(part)] if part else []
            advance(len(rows))
    whole = torch.cat(images) if images else torch.empty(0, dtype=torch.uint8)
    return {"images": whole, "targets": torch.tensor(targets, dtype=torch.int64), "unread": unread}


def _cache_file(pictures: Files, side: int) -> Path:
    """Name the cache after everything that decides its content: which files, how long and new each is, which size."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(f"3 {side} {pictures.mode}".encode())  # 3: how pixels are read
    for name, target in zip(pictures.paths, pictures.targets, strict=True):
        path = Path(name).absolute()
        facts = path.stat() if path.exists() else None
        state = (facts.st_size, facts.st_mtime_ns) if facts else None
        digest.update(f"{path} {target} {state}".encode())
    return base / "campfire_fx" / f"images-{side}-{digest.hexdigest()[:16]}.pt"


def _cached(path: Path | None) -> dict[str, Any] | None:
    """Return what is in the cache; a cache that cannot be read is none."""
    if path is None or not path.exists():
        return None
    try:
        return load_archive(path)
    except Unreadable:
        path.unlink(missing_ok=True)
        return None


def _write(content: dict[str, Any], path: Path) -> None:
    """Write whole or not at all; without a place to write to, the next run decodes again."""
    with contextlib.suppress(OSError, TrainError):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_archive(content, path, TrainError)
