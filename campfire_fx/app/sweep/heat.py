"""Heat maps of a sweep: what each pair of values of two axes costs in accuracy, as coloured tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from campfire_fx.app.sweep.compare import (
    LENGTH,
    REGIME,
    SPARSITY,
    START,
    Axis,
    Change,
    means_by,
    values_of,
)

_PALE, _DEEP = (255, 247, 236), (166, 54, 3)  # orange: a dark one is a loss, with every kind of colour vision
_DARK_FROM = 0.72


@dataclass(frozen=True, slots=True)
class Square:
    """A place of a heat map: the change in points, and colours as CSS writes them."""

    text: str
    background: str
    ink: str


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A table of squares.

    Attributes:
        title: what it is of.
        across, down: names of its axes.
        columns: values across.
        rows: value down, and its squares; None where nothing has finished.
        settings: the largest number of settings that a square is the mean of.
    """

    title: str
    across: str
    down: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Square | None, ...]], ...]
    settings: int


def heat_maps(changes: Sequence[Change]) -> Iterator[HeatMap]:
    """Yield sparsity by regime, and for each of their pairs era start by era length; as far as there are several.

    All have one scale of colours: the palest is the smallest loss of the sweep, the deepest the largest.
    """
    regimes, sparsities = values_of(changes, REGIME), values_of(changes, SPARSITY)
    eras = [one for one in changes if one.point.era is not None]
    if len(regimes) > 1 and len(sparsities) > 1:
        yield _map(changes, changes, "all regimes", SPARSITY, REGIME)
    if len(values_of(eras, START)) > 1 and len(values_of(eras, LENGTH)) > 1:
        for regime in regimes:
            for sparsity in sparsities:
                own = [one for one in eras if (one.point.regime, one.point.sparsity) == (regime, sparsity)]
                if own:
                    yield _map(own, changes, f"{regime}, {SPARSITY.written(sparsity)}", LENGTH, START)


def _map(own: Sequence[Change], every: Sequence[Change], title: str, across: Axis, down: Axis) -> HeatMap:
    means = means_by(own, lambda point: (down.value(point), across.value(point)))
    values = [one.change for one in every]
    columns, rows = values_of(own, across), values_of(own, down)
    squares = tuple(
        (
            down.written(row),
            tuple(
                _square(means[row, column].value, min(values), max(values)) if (row, column) in means else None
                for column in columns
            ),
        )
        for row in rows
    )
    most = max(mean.settings for mean in means.values())
    return HeatMap(title, across.name, down.name, tuple(map(across.written, columns)), squares, most)


def _square(value: float, worst: float, best: float) -> Square:
    depth = 0.0 if best == worst else min(1.0, max(0.0, (best - value) / (best - worst)))
    mixed = (round(pale + depth * (deep - pale)) for pale, deep in zip(_PALE, _DEEP, strict=True))
    return Square(f"{100 * value:+.1f}", f"rgb({', '.join(map(str, mixed))})", "#fff" if depth > _DARK_FROM else "#111")
