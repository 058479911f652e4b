"""One live process in a folder: a lock that the operating system takes away when the process dies."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from campfire_fx.base.disk.whole import told_as
from campfire_fx.base.errors import CampfireError

_log = logging.getLogger(__name__)

_LOCK, _HOLDER = ".lock", ".lock-holder"


@contextlib.contextmanager
def alone_in(folder: Path, error: type[CampfireError]) -> Iterator[None]:
    """Keep other processes that ask for the same out of a folder, which is made if it is not there.

    Raises:
        error: another live process has it, or nothing can be written there.
    """
    with told_as(error, folder, "Folder"):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(folder / _LOCK))
    holder = folder / _HOLDER
    try:
        with told_as(error, folder / _LOCK):
            taken = _take(lock)
    except NotImplementedError:  # some file systems over a network
        _log.warning("Folder %s: its file system has no locks. See that no other process writes there.", folder)
        yield
        return
    if not taken:
        raise error(f"Folder {folder}: {_named(holder)} is at work in it. Wait for it, or give another folder.")
    try:
        with contextlib.suppress(OSError):  # it is told to others only
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def wait_until_free(folder: Path, seconds: float) -> None:
    """Wait for the process that has a folder to go, but no longer than so many seconds."""
    with contextlib.suppress(OSError, NotImplementedError), FileLock(str(folder / _LOCK)).acquire(timeout=seconds):
        return


def _take(lock: FileLock) -> bool:
    """Take a lock, or say that it is held; Timeout is an OSError, but none that tells of a place."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _named(holder: Path) -> str:
    """Return who holds a lock, as the holder's note says; the note is written right after the lock is taken."""
    try:
        return holder.read_text(encoding="utf-8") or "another process"
    except (OSError, ValueError):
        return "another process"
