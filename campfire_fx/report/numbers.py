"""Numbers as people read them."""

from __future__ import annotations


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


def percent(value: float) -> str:
    """Return a fraction as "70.0 %"."""
    return f"{100 * value:.1f} %"


def shape(dims: tuple[int, ...]) -> str:
    """Return (64, 3, 7, 7) as "64x3x7x7"."""
    return "x".join(str(d) for d in dims)
