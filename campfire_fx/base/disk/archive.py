"""Tensors and plain values in a file of torch.save: sealed when written, and nothing in it is run when read."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from campfire_fx.base.disk.seal import fault
from campfire_fx.base.disk.whole import write_whole
from campfire_fx.base.errors import CampfireError


class Unreadable(Exception):
    """A file cannot be read; the text says why, as half a sentence."""


def save_archive(content: Any, path: Path, error: type[CampfireError]) -> None:
    """Write tensors and plain values, whole or not at all, with a checksum inside.

    Raises:
        error: it cannot be written.
    """
    write_whole(path, lambda file: torch.save(content, file), error, sealed=True)


def load_archive(path: Path) -> Any:
    """Return what `save_archive` or torch.save wrote, on the CPU.

    Raises:
        Unreadable: the file is spoilt, or something else, or holds more than tensors and plain values.
    """
    try:
        spoilt = fault(path)
        if spoilt is None:
            with path.open("rb") as file:  # torch takes no path that is no UTF-8
                return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:  # torch's own text is a page about safety
        raise Unreadable("it is not a file of torch.save, or holds more than tensors and plain values") from error
    except Exception as error:  # torch.load raises errors of many kinds
        raise Unreadable(reason(error)) from error
    raise Unreadable(spoilt)


def reason(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
