"""The report of a purification: what went from each convolution, and how far the output moved."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.text import Text

from campfire_fx.passes.purify import PurifiedLayer, Thresholds
from campfire_fx.report.numbers import percent, shape
from campfire_fx.report.style import Report
from campfire_fx.report.table import Column, FittedTable

_COLUMNS = (
    Column("layer", right=False),
    Column("operation", 4, right=False),
    Column("weight", 3),
    Column("columns\ngone", 0),
    Column("channels\ngone", 0),
    Column("weights\ngone", 1),
    Column("of the\nsquared norm", 2),
)


@dataclass(frozen=True, slots=True)
class PurificationReport(Report):
    """Shows what `purify` did; `difference` is of the output, relative."""

    layers: tuple[PurifiedLayer, ...]
    difference: float
    thresholds: Thresholds

    def __rich__(self) -> Any:
        told = ", ".join(f"{name} {value:g}" for name, value in asdict(self.thresholds).items())
        table = FittedTable(f"Purified, thresholds {told}", _COLUMNS, [_row(layer) for layer in self.layers])
        moved = f"The output moved by {self.difference:.1e} of its largest magnitude, on the example inputs."
        return Group(table, Text(moved))

    def to_json(self) -> str:
        """Return the same as JSON text."""
        return json.dumps(asdict(self))


def _row(layer: PurifiedLayer) -> tuple[str, ...]:
    return (
        layer.name,
        layer.operation,
        shape(layer.shape),
        f"{layer.columns[0]}/{layer.columns[1]}",
        f"{layer.channels[0]}/{layer.channels[1]}",
        f"{layer.weights}",
        percent(layer.share, 2),
    )
