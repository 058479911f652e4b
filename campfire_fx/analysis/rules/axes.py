"""Along which dimensions a call works: read off its arguments, or known of the operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.rules.record import Call

Axes = Callable[[Call], "list[int] | None"]


def dims_at(position: int, default: Any = None) -> Axes:
    """Read the dimensions off the argument `dim` (or `axis`), which stands at this place; None: no plain numbers."""

    def axes(call: Call) -> list[int] | None:
        return _counted(call, call.get(position, "dim", call.kwargs.get("axis", default)))

    return axes


def dims(*given: int) -> Axes:
    """Say that an operation always works along these dimensions."""
    return lambda call: _counted(call, given)


def last(count: int) -> Axes:
    """Say that an operation works along so many last dimensions."""
    return dims(*range(-count, 0))


def space(call: Call) -> list[int]:
    """Return all dimensions but the first two."""
    return list(range(2, len(call.get(0, "input").shape)))


def _counted(call: Call, given: Any) -> list[int] | None:
    value = call.get(0, "input")
    given = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    if not given or not all(type(d) is int for d in given) or not isinstance(value, Labelled):
        return None
    return [d % len(value.shape) for d in given]
