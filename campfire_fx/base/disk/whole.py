"""Files written whole or not at all, whenever the disk is full, or the process or the machine dies."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from campfire_fx.base.disk.seal import close
from campfire_fx.base.errors import CampfireError

PARTIAL = ".partial-"

Write = Callable[[IO[bytes]], object]


class _Draft(io.RawIOBase):
    """A file that takes everything and keeps its first error for later.

    torch's archive writer is C++: an error in the middle becomes a RuntimeError without a reason, or, as it is met
    again in a destructor, the end of the interpreter.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._error: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self._error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
        return size

    def check(self) -> None:
        """Raise the error that was met, if there was one."""
        if self._error is not None:
            raise self._error


def write_file(path: Path, write: Write, *, sealed: bool = False, code: str | None = None) -> None:
    """Call `write` with the file opened at `path`, close the seal in it if asked, and bring it to the disk.

    Args:
        path: where it is written.
        write: writes it.
        sealed: the file has a blank seal, or is a zip archive.
        code: of a zip archive, the model code that belongs to it.

    Raises:
        OSError: it cannot be written; what is there of it is worth nothing.
    """
    with path.open("w+b") as file:
        draft = _Draft(file)
        write(cast(IO[bytes], draft))
        draft.check()
        file.flush()
        if sealed:
            close(file, code)
            file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, write: Write, error: type[CampfireError], *, sealed: bool = False) -> None:
    """Write a file beside `path` as `write_file` does, and put it in the place of `path` in one step.

    Raises:
        error: it cannot be written; what was at `path` is still there.
    """
    with told_as(error, path):
        path = Path(os.path.realpath(path))  # a link stays one
        known = zlib.crc32(os.fsencode(path.name))
        partial = path.with_name(f"{PARTIAL}{known:08x}-{os.getpid()}-{threading.get_ident():x}")
        try:
            write_file(partial, write, sealed=sealed)
            partial.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_text(path: Path, text: str, error: type[CampfireError]) -> None:
    """Write text in UTF-8 as `write_whole` does; bytes of a path that are none are written as numbers.

    Raises:
        error: it cannot be written.
    """
    plain = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    write_bytes(path, plain.encode(), error)


def write_bytes(path: Path, content: bytes, error: type[CampfireError]) -> None:
    """Write bytes as `write_whole` does.

    Raises:
        error: it cannot be written.
    """
    write_whole(path, lambda file: file.write(content), error)


@contextlib.contextmanager
def told_as(error: type[CampfireError], path: Path, what: str = "File") -> Iterator[None]:
    """Tell of what the operating system refuses, as the error given, in one sentence."""
    try:
        yield
    except OSError as refused:
        reason = refused.strerror or str(refused) or type(refused).__name__
        raise error(
            f"{what} at {path}: it cannot be written ({reason}). Make room, or choose another place."
        ) from refused


def sync_folder(folder: Path) -> None:
    """Bring new names in a folder to the disk, where the system can open folders."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
