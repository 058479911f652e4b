"""Tables that fit: on a narrow terminal whole columns go, in a stated order, and no number is ever cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from campfire_fx.report.style import STYLES


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        header: its name.
        drop: 0 is always shown; of the others the one with the highest number goes first.
        right: align to the right (numbers).
        wraps: text that may take several lines; numbers and names never do.
    """

    header: str
    drop: int = 0
    right: bool = True
    wraps: bool = False


@dataclass(frozen=True, slots=True)
class FittedTable:
    """Rows of text under columns, with an optional row of totals; drops columns that do not fit."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    total: Sequence[str] | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = list(range(len(self.columns)))
        hidden: list[str] = []
        while True:
            table = self._table(shown)
            if Measurement.get(console, options.update(width=10_000), self._table(shown, True)).minimum <= options.max_width:
                break
            last = max(shown, key=lambda i: self.columns[i].drop)
            if self.columns[last].drop == 0:
                break
            shown.remove(last)
            hidden.append(self.columns[last].header)
        yield table
        if hidden:
            yield Text(f"Not shown at this width: {', '.join(hidden)}.", style=STYLES["report.note"])

    def _table(self, shown: Sequence[int], strict: bool = False) -> Table:
        """Build the table of some columns; `strict` keeps wrapping columns at their least useful width."""
        table = Table(
            title=self.title or None,
            title_style=STYLES["report.title"],
            title_justify="left",
            header_style=STYLES["report.header"],
            box=box.SIMPLE_HEAD,
            show_footer=self.total is not None,
            footer_style=STYLES["report.total"],
            pad_edge=False,
        )
        for i in shown:
            column = self.columns[i]
            table.add_column(
                column.header,
                self.total[i] if self.total is not None else "",
                justify="right" if column.right else "left",
                no_wrap=not column.wraps,
                min_width=min(24, max((len(r[i]) for r in self.rows), default=0)) if column.wraps else None,
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*(Text(row[i]) for i in shown))
        return table
