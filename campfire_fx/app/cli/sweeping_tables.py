"""The tables of the sweep command."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from campfire_fx.app.sweep.beside import Beside, Here
from campfire_fx.app.sweep.grid import label
from campfire_fx.app.sweep.page import change_told
from campfire_fx.app.sweep.results import Cell
from campfire_fx.report.numbers import percent
from campfire_fx.report.table import Column, FittedTable

_COLUMNS = (
    Column("setting", right=False),
    Column("learning rate", 3),
    Column("seeds", 1),
    Column("accuracy"),
    Column("against dense"),
    Column("true sparsity", 2),
    Column("parameters", 4),
)


def cells_table(cells: Sequence[Cell]) -> RenderableType:
    """Return a row for each setting."""
    rows = [
        (
            label(cell.point) + (", slim from scratch" if cell.scratch else ""),
            f"{cell.point.rate:g}",
            str(len(cell.seeds)),
            percent(cell.accuracy.value, 2),
            change_told(cell),
            percent(cell.facts["true_sparsity"]) if "true_sparsity" in cell.facts else "",
            f"{cell.facts['parameters']:,.0f}",
        )
        for cell in cells
    ]
    note = (
        "Accuracy: on the test images, mean over seeds. Against dense: difference from the dense training of the same"
        " seed, in points. 95 % intervals: over seeds; of a single seed, over images."
    )
    return Group(FittedTable("Sweep", _COLUMNS, rows), Text(note))


def beside_table(table: Beside, here: Here) -> RenderableType:
    """Return two rows for each of the paper's: what is published, and what was found here."""
    columns = [Column("", right=False), Column("", right=False), *map(Column, table.columns)]
    rows = []
    for line in table.lines:
        rows.append((line.label, "paper", *(numbers.told for numbers in line.published)))
        rows.append((line.era_here, "here", *(numbers.told for numbers in line.here)))
    return Group(Text(), FittedTable(table.title, columns, rows), Text(f"{table.head(here)}\n{table.foot}"))
