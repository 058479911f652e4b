"""A sweep laid out as tables of the paper: what was found here beside what is published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from campfire_fx.app.sweep.grid import Point
from campfire_fx.app.sweep.paper import Layout, Row, Table
from campfire_fx.app.sweep.results import Cell
from campfire_fx.report.numbers import percent

Key = tuple[str | None, float, tuple[int, int] | None, tuple[int, ...] | None]


@dataclass(frozen=True, slots=True)
class Numbers:
    """An accuracy and what it is less that of dense, shares; None where it is not known."""

    accuracy: float | None
    change: float | None

    @property
    def told(self) -> str:
        """As the paper writes it: accuracy in percent, and in brackets the change in points."""
        if self.accuracy is None:
            return "-"
        change = "" if self.change is None else f" ({100 * self.change:+.2f})"
        return f"{100 * self.accuracy:.2f}{change}"


@dataclass(frozen=True, slots=True)
class Here:
    """What was trained here: network, data, and for how many epochs."""

    model: str
    data: str
    epochs: int


NOTHING = Numbers(None, None)


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table: its label, the era here, and by sparsity what is published and what was found here."""

    label: str
    era: tuple[int, int] | None
    published: tuple[Numbers, ...]
    here: tuple[Numbers, ...]

    @property
    def era_here(self) -> str:
        """The era of the trainings here."""
        return "" if self.era is None else f"  era {self.era[0]} to {self.era[1]}"


@dataclass(frozen=True, slots=True)
class Beside:
    """A table of the paper, filled in.

    Attributes:
        title, setting, note: of the paper's table.
        dense: accuracy of the dense training, published.
        dense_here: and here.
        sparsities: the columns.
        lines: the rows.
        alike: of how many pairs of settings one loses more than the other in both, and of how many pairs.
    """

    title: str
    setting: str
    note: str
    dense: float | None
    dense_here: float | None
    sparsities: tuple[float, ...]
    lines: tuple[Line, ...]
    alike: tuple[int, int]

    @property
    def columns(self) -> list[str]:
        """The sparsities as they are written."""
        return [percent(sparsity, 0) for sparsity in self.sparsities]

    def head(self, here: Here) -> str:
        """Say what is held against what, and where it is another data set, so."""
        name = Path(here.data).name.lower()
        same = "imagenet" in name and ("tiny" in name) == ("Tiny" in self.setting)
        warning = "" if same else " Another data set and network: compare the changes and their order, not accuracies."
        published = "" if self.dense is None else f" (dense {percent(self.dense, 2)})"
        found = "" if self.dense_here is None else f" (dense {percent(self.dense_here, 2)})"
        mine = f"{here.model} on {here.data}, {here.epochs} epochs{found}"
        return f"Published: {self.setting}{published}. Here: {mine}.{warning}"

    @property
    def foot(self) -> str:
        """Say how far the order is the same, and what the paper leaves open."""
        same, pairs = self.alike
        order = f"{same} of {pairs} pairs of settings are in the same order as in the paper. " if pairs else ""
        return f"{order}Accuracy %, and in brackets its change against dense in points. {self.note}".strip()


def beside(layout: Layout, cells: Sequence[Cell]) -> list[Beside]:
    """Return the tables of a layout, as `Layout.scaled` gives it, with what the cells of its sweep say."""
    known = {_key(cell.point): cell for cell in cells if not cell.scratch}
    return [_filled(table, layout, known) for table in layout.tables]


def _key(point: Point) -> Key:
    return point.regime, point.sparsity, point.era, point.drops


def _filled(table: Table, layout: Layout, known: dict[Key, Cell]) -> Beside:
    sparsities = tuple(sorted({sparsity for row in table.rows for sparsity in row.published}))
    after = None if table.at == 1.0 else round(table.at * layout.epochs)
    lines = []
    for row in table.rows:
        drops = layout.drops if row.drops is None else row.drops
        dense = known.get((None, 0.0, None, drops))
        asked = [known.get((row.regime, s, row.era, drops)) if s in row.published else None for s in sparsities]
        here = tuple(_here(cell, dense, after) for cell in asked)
        lines.append(Line(row.label, row.era, tuple(_published(row, table, s) for s in sparsities), here))
    usual = known.get((None, 0.0, None, layout.drops))
    return Beside(
        table.title,
        table.setting,
        table.note,
        None if table.dense is None else table.dense / 100,
        _read(usual, after),
        sparsities,
        tuple(lines),
        _alike([pair for line in lines for pair in zip(line.published, line.here, strict=True)]),
    )


def _published(row: Row, table: Table, sparsity: float) -> Numbers:
    accuracy, dense = row.published.get(sparsity), table.dense if row.dense is None else row.dense
    if accuracy is None:
        return NOTHING
    return Numbers(accuracy / 100, None if dense is None else (accuracy - dense) / 100)


def _here(cell: Cell | None, dense: Cell | None, after: int | None) -> Numbers:
    accuracy, reference = _read(cell, after), _read(dense, after)
    if cell is None or accuracy is None:
        return NOTHING
    if after is None:
        return Numbers(accuracy, cell.change)
    return Numbers(accuracy, None if reference is None else accuracy - reference)


def _read(cell: Cell | None, after: int | None) -> float | None:
    """Return the accuracy at the end, of test images; or after so many epochs, of validation images."""
    if cell is None:
        return None
    if after is None:
        return cell.accuracy.value
    return cell.valid[after - 1] if len(cell.valid) >= after else None


def _alike(pairs: Sequence[tuple[Numbers, Numbers]]) -> tuple[int, int]:
    changes = list(_both(pairs))
    different = [(a, b) for a, b in combinations(changes, 2) if a[0] != b[0] and a[1] != b[1]]
    return sum((a[0] < b[0]) == (a[1] < b[1]) for a, b in different), len(different)


def _both(pairs: Sequence[tuple[Numbers, Numbers]]) -> Iterator[tuple[float, float]]:
    for published, here in pairs:
        if published.change is not None and here.change is not None:
            yield round(published.change, 6), round(here.change, 6)


def beside_facts(tables: Sequence[Beside]) -> list[dict[str, Any]]:
    """Return filled tables as plain data."""
    return [asdict(table) for table in tables]
