"""What libraries in C print of themselves, kept out of a program's results."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def kept_quiet() -> Iterator[None]:
    """Drop what C code prints on standard output: MNN talks there, where results are."""
    sys.stdout.flush()
    libc = ctypes.CDLL(None) if sys.platform != "win32" else None
    kept = os.dup(1)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        if libc is not None:
            libc.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
