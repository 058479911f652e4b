"""Numbers as users give them, made Python's own: what is saved, compared by its repr or shown has one form."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Return a number of numpy's as Python's own; anything else as it is.

    A short float becomes the decimal number that it shows: 0.7 in float32 is 0.7, and not 0.699999988079071.
    """
    if isinstance(value, np.floating):
        return float(str(value))
    return value.item() if isinstance(value, (np.integer, np.bool_)) else value


def plain_fields(record: Any) -> None:
    """Make all numbers in a frozen record plain, from its `__post_init__`."""
    for field in fields(record):
        object.__setattr__(record, field.name, plain(getattr(record, field.name)))
