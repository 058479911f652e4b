"""Putting files in place: written and checked in a hidden folder beside the target, then moved, or not."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from campfire_fx.base.disk.whole import PARTIAL, sync_folder, told_as
from campfire_fx.base.errors import ExportError
from campfire_fx.export.template import MARK

_log = logging.getLogger(__name__)


def check_target(target: Path, also: tuple[Path, ...] = ()) -> None:
    """Refuse a target that cannot be written, before any work is done for it.

    Raises:
        ExportError: its folder is missing, or it is itself a folder, or `also` names a file that `export` did
        not write.
    """
    if not target.parent.is_dir():
        raise ExportError(f"cannot write {target}: there is no folder {target.parent}. Make it first.")
    for file in (target, *also):
        if file.is_dir():
            raise ExportError(f"cannot write {file}: it is a folder. Name a file.")
    for file in also:
        if file.suffix == ".py" and file.stem in {*sys.stdlib_module_names, "torch"}:
            _log.warning("%s hides the module %s from programs in its folder: choose another name.", file, file.stem)
        if file.exists() and not is_ours(file):
            raise ExportError(
                f"cannot write {file}: a file of that name exists that campfire_fx.export did not write. "
                "Move it, or export under another name."
            )


@contextlib.contextmanager
def staged(target: Path, also: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield a path to write the target at, in a hidden folder; move it and `also` into place on success.

    `also` are further files for the target's folder, written beside the yielded path.

    Raises:
        ExportError: the operating system refuses.
    """
    with told_as(ExportError, target):
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=PARTIAL) as name:
            yield Path(name, target.name)
            for file in (*also, target):
                Path(name, file.name).replace(os.path.realpath(file))
        sync_folder(target.parent)


def is_ours(file: Path) -> bool:
    """Say whether `export` wrote this model code."""
    with file.open(errors="replace") as text:
        return text.read(len(MARK)) == MARK
