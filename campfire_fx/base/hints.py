"""Hints in errors: the known word that is nearest to one that is not known, and how to install what is missing."""

from __future__ import annotations

import difflib
import importlib.metadata
import re
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean '...'?" with the nearest known word, or "" where none is known."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.0)
    return f" Did you mean '{near[0]}'?" if near else ""


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra of this library, under their own names.

    No index knows the name of this library, so that of the extra would not do. Double quotes: Windows has no others.
    """
    try:
        requirements = importlib.metadata.requires("campfire-fx") or []
    except importlib.metadata.PackageNotFoundError:  # its folder lies on the path, and was not installed
        return f'pip install ".[{extra}]" in the folder that campfire_fx was cloned into'
    marked = (requirement.partition(";") for requirement in requirements)
    wanted = [name.strip() for name, _, marker in marked if re.search(rf"extra == ['\"]{extra}['\"]", marker)]
    return " ".join(("pip install", *(f'"{name}"' for name in wanted)))
