"""Which taps of a kernel can go: arithmetic on one spatial axis of a convolution, and the best choice over all.

An output at position i reads the input at `i * stride + tap * dilation - front`. Taps that no weight uses can be
left out at both ends, and between the others where those lie evenly: then they are a smaller kernel, with other
padding and perhaps a larger dilation. Nothing here knows a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Axis", "Taps", "smallest"]


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis of a convolution: kernel size, dilation, and how far its input is padded before and behind."""

    size: int
    dilation: int
    front: int
    back: int


@dataclass(frozen=True, slots=True)
class Taps:
    """A smaller kernel along one axis.

    Attributes:
        kept: the taps of the old kernel that it has; evenly spaced.
        axis: the settings that make it read the same inputs; a negative pad cuts the input off.
    """

    kept: range
    axis: Axis

    @property
    def even(self) -> bool:
        """Whether a convolution can be told to pad so: as much before as behind."""
        return self.axis.front == self.axis.back >= 0


def smallest(axis: Axis, live: Sequence[int], *, even: bool) -> Taps:
    """Return the fewest taps that have all live ones among them; of equally few, those with the least dilation.

    Args:
        axis: as it is.
        live: the taps that some weight uses, rising; none where the whole kernel is zero.
        even: only such as a convolution can pad by itself. Where there are none, the axis stays as it is.
    """
    found = [taps for taps in _all(axis, live) if taps.even or not even]
    whole = Taps(range(axis.size), axis)
    return min(found, key=lambda taps: (len(taps.kept), not taps.even, taps.axis.dilation), default=whole)


def _all(axis: Axis, live: Sequence[int]) -> Iterator[Taps]:
    """Yield, between any two ends, the fewest evenly spaced taps that have the live ones."""
    for first in range(live[0] + 1 if live else axis.size):
        for last in range(live[-1] if live else first, axis.size):
            step = math.gcd(last - first, *(tap - first for tap in live))
            kept = range(first, last + 1, step or 1)
            yield Taps(kept, _settings(axis, kept))


def _settings(axis: Axis, kept: range) -> Axis:
    dilation = axis.dilation * kept.step if len(kept) > 1 else 1
    front = axis.front - kept[0] * axis.dilation
    back = axis.back - (axis.size - 1 - kept[-1]) * axis.dilation
    return Axis(len(kept), dilation, front, back)
