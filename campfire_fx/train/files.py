"""Files written whole or not at all, whenever the process or the machine dies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from campfire_fx.errors import TrainError

PARTIAL = ".partial-"


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file beside `path`, bring it to the disk, and put it in the place of `path` in one step.

    Raises:
        OSError: it cannot be written; what was at `path` is still there.
    """
    partial = path.with_name(f"{PARTIAL}{path.name}-{os.getpid()}")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write text as `write_whole` does.

    Raises:
        TrainError: it cannot be written.
    """
    try:
        write_whole(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise TrainError(f"File at {path}: it cannot be written ({error}). Make room, or give --output.") from error


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk, where the system can open folders."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
