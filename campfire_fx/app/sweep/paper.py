"""The tables of the Campfire paper (arXiv 2001.03253) as sweeps: their settings, and the numbers that it publishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from campfire_fx.app.sweep.grid import Point, in_order
from campfire_fx.base.errors import TrainError
from campfire_fx.base.hints import did_you_mean

Era = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        label: as the paper has it.
        published: top-1 accuracy in percent, by sparsity.
        regime, era: what is trained; None for methods that the paper quotes.
        drops: epochs of the drops, where they are not the table's.
        dense: accuracy of its own dense training, where there is one.
    """

    label: str
    published: Mapping[float, float]
    regime: str | None = None
    era: Era | None = None
    drops: tuple[int, ...] | None = None
    dense: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the paper.

    Attributes:
        title: its number, and what it is of.
        setting: network, data and budget.
        dense: top-1 accuracy of the dense training, in percent.
        rows: see `Row`.
        at: the part of the epochs after which the accuracy was read.
        note: what the paper leaves open, or what was inferred.
    """

    title: str
    setting: str
    dense: float | None
    rows: tuple[Row, ...]
    at: float = 1.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """Tables that one sweep fills in: the epochs of their trainings, and those at which the learning rate drops."""

    tables: tuple[Table, ...]
    epochs: int
    drops: tuple[int, ...]
    name: str = field(default="", compare=False)

    def scaled(self, epochs: int) -> Layout:
        """Return the layout with eras and drops brought to so many epochs.

        Raises:
            TrainError: they are too few to tell eras and drops apart.
        """
        if not self._told_apart(epochs):
            enough = next(count for count in range(epochs, self.epochs + 1) if self._told_apart(count))
            raise TrainError(
                f"--paper {self.name}: {epochs} epochs for the paper's {self.epochs} are too few to tell its eras and"
                f" drops apart. Give --epochs {enough}, or another number of about that size or more."
            )

        def at(epoch: int) -> int:
            return round(epoch * epochs / self.epochs)

        def brought(row: Row) -> Row:
            era = None if row.era is None else (at(row.era[0]), at(row.era[1]))
            return replace(row, era=era, drops=None if row.drops is None else tuple(map(at, row.drops)))

        tables = tuple(replace(table, rows=tuple(map(brought, table.rows))) for table in self.tables)
        return replace(self, tables=tables, epochs=epochs, drops=tuple(map(at, self.drops)))

    def _told_apart(self, epochs: int) -> bool:
        rows = [row for table in self.tables for row in table.rows]
        marks = {epoch for row in rows for epoch in (*(row.era or ()), *(row.drops or ()))} | {*self.drops}
        return len({round(mark * epochs / self.epochs) for mark in marks}) == len(marks)

    def points(self, seeds: Sequence[int]) -> tuple[Point, ...]:
        """Return what is to be trained, the dense trainings first."""
        found = [
            Point(row.regime, sparsity, row.era, None, self.drops if row.drops is None else row.drops)
            for table in self.tables
            for row in table.rows
            if row.regime is not None
            for sparsity in row.published
        ]
        unique = list(dict.fromkeys(found))
        return tuple(in_order(replace(point, seed=seed) for seed in seeds for point in unique))


def layout_named(name: str) -> Layout:
    """Return a layout by its name.

    Raises:
        TrainError: there is none of that name.
    """
    if name not in LAYOUTS:
        raise TrainError(f"--paper {name}: there is none.{did_you_mean(name, LAYOUTS)} There are {', '.join(LAYOUTS)}.")
    return replace(LAYOUTS[name], name=name)


def _by_sparsity(numbers: str, sparsities: Sequence[float]) -> dict[float, float]:
    """Read numbers between blanks, a dash where there is none."""
    return {
        sparsity: float(number) for sparsity, number in zip(sparsities, numbers.split(), strict=True) if number != "-"
    }


_FOUR = (0.4, 0.6, 0.7, 0.8)
_LATER = (  # label, regime, era, accuracy after 100 epochs and after 90
    ("CK, start 40", "ck", (40, 60), "75.82 75.33 74.92 74.16", "74.93 74.60 74.21 73.34"),
    ("CK, start 30", "ck", (30, 50), "75.84 75.12 74.72 73.66", "74.96 74.25 73.83 -"),
    ("CK, start 20", "ck", (20, 40), "75.55 74.71 74.32 72.79", "74.74 73.84 73.37 72.49"),
    ("Combined, start 40", "combined", (40, 60), "75.89 75.38 75.07 74.02", "74.91 74.75 74.36 73.22"),
    ("Combined, start 30", "combined", (30, 50), "75.84 75.16 74.48 73.66", "74.94 74.41 73.87 -"),
    ("Combined, start 20", "combined", (20, 40), "75.72 74.75 74.26 72.97", "74.73 73.65 - 72.22"),
    ("Window, start 0", "window", (0, 30), "- 73.63 72.79 70.25", "- 72.63 71.79 69.48"),
    ("Window, start 30", "window", (30, 50), "- 75.45 74.65 73.31", "- 74.28 73.88 72.63"),
    ("CK, era 40-70", "ck", (40, 70), "- 75.52 75.16 -", "- 74.67 74.34 -"),
    ("Combined, era 40-70", "combined", (40, 70), "- 75.56 75.14 -", "- 74.77 74.38 -"),
)
_V15 = "ResNet-50 v1.5, ImageNet, batches of 64"
_WINDOW_0 = 'The era of "Window, start 0" is taken to be 0 to 30, as the paper\'s Table 5 has it.'
_TABLE_2 = Table(
    "Table 2: 100 epochs",
    _V15,
    76.29,
    tuple(Row(label, _by_sparsity(full, _FOUR), regime, era) for label, regime, era, full, _ in _LATER),
    note=_WINDOW_0,
)
_TABLE_3 = Table(
    "Table 3: after 90 epochs",
    _V15,
    75.25,
    tuple(Row(label, _by_sparsity(early, _FOUR), regime, era) for label, regime, era, _, early in _LATER),
    at=0.9,
    note="That it is the accuracy of the same trainings after 90 epochs is inferred. Here: validation images.",
)
_LAST_DROP = (
    ("CK, start 40", "ck", (40, 60), 75.33, 75.39),
    ("CK, start 30", "ck", (30, 50), 75.12, 75.06),
    ("CK, start 20", "ck", (20, 40), 74.71, 74.80),
    ("Combined, start 40", "combined", (40, 60), 75.38, 75.46),
    ("Combined, start 30", "combined", (30, 50), 75.16, 75.19),
    ("Combined, start 20", "combined", (20, 40), 74.75, 74.88),
    ("Window, start 0", "window", (0, 30), 73.63, 73.89),
)  # label, regime, era, accuracy with the last drop at 90 and at 80

LAYOUTS: Mapping[str, Layout] = {
    "table-1": Layout(
        (
            Table(
                "Table 1: an early era",
                "ResNet-50 v1, Tiny-ImageNet, 40 epochs, Adam",
                None,
                (
                    Row(
                        "Window",
                        _by_sparsity("50.97 51.62 52.09 51.16", (0.2, *_FOUR[:2], 0.8)),
                        "window",
                        (0, 10),
                        dense=52.03,
                    ),
                    Row(
                        "CK",
                        _by_sparsity("52.40 51.79 52.56 52.07", (0.2, *_FOUR[:2], 0.8)),
                        "ck",
                        (0, 10),
                        dense=51.84,
                    ),
                ),
            ),
        ),
        40,
        (30,),
    ),
    "tables-2-3": Layout((_TABLE_2, _TABLE_3), 100, (30, 60, 90)),
    "table-4": Layout(
        (
            Table(
                "Table 4: after 90 epochs",
                "ResNet-50 v1, ImageNet",
                74.94,
                (
                    Row("CK, start 40", {0.6: 74.60}, "ck", (40, 60)),
                    Row("Combined, start 40", {0.6: 74.68}, "combined", (40, 60)),
                    Row("Window, start 0", {0.6: 74.78}, "window", (0, 30)),
                    Row("PruneTrain", {0.5: 73.0}),
                ),
                at=0.9,
                note="Dense: the paper's text. Here: validation images.",
            ),
            Table(
                "Table 4: 100 epochs",
                "ResNet-50 v1, ImageNet",
                None,
                (
                    Row("CK, start 40", {0.6: 75.36}, "ck", (40, 60)),
                    Row("Combined, start 40", {0.6: 75.37}, "combined", (40, 60)),
                    Row("CK, start 30", {0.8: 73.66}, "ck", (30, 50)),
                    Row("Dynamic sparse", {0.8: 73.3}),
                    Row("Dynamic sparse, kernels", {0.8: 72.6}),
                ),
            ),
        ),
        100,
        (30, 60, 90),
    ),
    "table-5": Layout(
        (
            Table(
                "Table 5: larger batches",
                "ResNet-50 v1.5, ImageNet, batches of 256",
                76.53,
                (
                    Row("CK, start 20", {0.7: 74.72}, "ck", (20, 40)),
                    Row("CK, start 30", {0.7: 75.13}, "ck", (30, 50)),
                    Row("Window, start 20", {0.7: 74.68}, "window", (20, 40)),
                    Row("Window, start 30", {0.7: 74.87}, "window", (30, 50)),
                    Row("Window, start 40", {0.7: 75.03}, "window", (40, 60)),
                    Row("Window, era 0-30", {0.6: 73.95}, "window", (0, 30)),
                    Row("Combined, start 20", {0.7: 74.01}, "combined", (20, 40)),
                    Row("Combined, start 30", {0.7: 74.44}, "combined", (30, 50)),
                    Row("Combined, start 40", {0.7: 74.62}, "combined", (40, 60)),
                ),
            ),
        ),
        100,
        (30, 60, 90),
    ),
    "table-9": Layout(
        (
            Table(
                "Table 9: the last drop of the learning rate, 60 % sparse",
                _V15,
                76.29,
                tuple(
                    row
                    for label, regime, era, late, early in _LAST_DROP
                    for row in (
                        Row(f"{label}, last drop at 90", {0.6: late}, regime, era),
                        Row(f"{label}, last drop at 80", {0.6: early}, regime, era, drops=(30, 60, 80)),
                    )
                ),
                note="The dense accuracy is that of the last drop at 90; the paper has none for 80. " + _WINDOW_0,
            ),
        ),
        100,
        (30, 60, 90),
    ),
}
