"""Numbers as people read them, and what they were measured on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from campfire_fx.base.compat import pytree
from campfire_fx.cost.measure import MacCount
from campfire_fx.cost.time_ratio import TimeRatio

GUESSED = " (guessed: no example was given)"
_MOST_OPERATIONS = 10
SAME = "no difference"
TIME_NOTE = f"Times: measured in turns, with 95 % intervals; {SAME}: too small to measure."


def count(value: float) -> str:
    """Return 1234567 as "1.23 M"."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.0f}"


def size(value: float) -> str:
    """Return bytes as "4.21 MB" (powers of ten)."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.0f} B"


def percent(value: float, places: int = 1) -> str:
    """Return a fraction as "70.0 %"."""
    return f"{100 * value:.{places}f} %"


def milliseconds(value: float) -> str:
    """Return 6.184 as "6.18", 1234.5 as "1234"."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def time_share(ratio: TimeRatio) -> str:
    """Return a ratio of times as "68 % (66 to 71)", or that no difference could be measured, with the interval."""
    low, high = f"{100 * ratio.low:.0f}", f"{100 * ratio.high:.0f}"
    if not ratio.differs:
        return f"{SAME} ({low} to {high} %)"
    return f"{100 * ratio.value:.0f} % ({low} to {high})"


def times_as_fast(ratio: TimeRatio) -> str:
    """Return a ratio of times as "1.47 (1.41 to 1.52)" times as fast, or that no difference could be measured."""
    fast = ratio.times_as_fast
    return f"{f'{fast.value:.2f}' if ratio.differs else SAME} ({fast.low:.2f} to {fast.high:.2f})"


def shape(dims: tuple[int, ...]) -> str:
    """Return (64, 3, 7, 7) as "64x3x7x7"."""
    return "x".join(str(d) for d in dims)


def whole(value: int) -> str:
    """Return 1234567 as "1,234,567"."""
    return f"{value:,}"


def plural(number: int, noun: str) -> str:
    """Return "1 sum" or "2 sums"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return "a, b, c, d and 3 more"."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def input_shapes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of all tensors of a call."""
    return tuple(tuple(leaf.shape) for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))


def cost_note(inputs: tuple[tuple[int, ...], ...], cost: MacCount, *, guessed: bool = False) -> str:
    """Return what MACs were measured on, and which operations they leave out."""
    shapes = ", ".join(shape(dims) for dims in inputs) or "no tensors"
    others: Counter[str] = Counter()
    for name, times in cost.not_counted.items():
        others[_common(name)] += times
    listed = ", ".join(f"{name} {times}x" for name, times in others.most_common(_MOST_OPERATIONS)) or "nothing"
    if len(others) > _MOST_OPERATIONS:
        listed += f", and {plural(len(others) - _MOST_OPERATIONS, 'other operation')}"
    shapes += GUESSED if guessed else ""
    return f"Measured on one call with {shapes}. Not counted in MACs: {listed}."


def _common(operation: str) -> str:
    """Return torch's name of an operation without the marks of its inner variants: batch_norm, max_pool2d."""
    return re.sub(r"^_?(native_)?|_?legit(_no_training)?|_with_indices$|_$", "", operation)
