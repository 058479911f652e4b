"""Hints in errors: the known word that is nearest to one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean '...'?" with the nearest known word, or "" where none is known."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.0)
    return f" Did you mean '{near[0]}'?" if near else ""
