"""Tables that fit: on a narrow terminal whole columns go, in a stated order; no text is ever cut."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from campfire_fx.report.style import STYLES

_GAP = 3  # between columns
_WRAPPED = 24
_LEAST = 12  # width of a column of names


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        header: its name; a line break in it keeps the column narrow.
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
        shown = self.filled()
        hidden: list[str] = []
        while True:
            if sum(self._width(i) + _GAP for i in shown) <= options.max_width:
                break
            last = max(shown, key=lambda i: self.columns[i].drop)
            if self.columns[last].drop == 0:
                break
            shown.remove(last)
            hidden.append(self.columns[last].header.replace("\n", " "))
        yield self._table(shown, self._narrowed(shown, options.max_width))
        if hidden:
            yield Text(f"Not shown at this width: {', '.join(hidden)}.", style=STYLES["report.note"])

    def filled(self) -> list[int]:
        """Return the numbers of the columns that say something in any row."""
        rows = [*self.rows, self.total] if self.total else self.rows
        return [i for i in range(len(self.columns)) if not rows or any(row[i] for row in rows)]

    def _width(self, i: int) -> int:
        """Return the least width of a column: of its longest cell, or for text that wraps of a few words."""
        column = self.columns[i]
        rows = [*self.rows, self.total] if self.total else self.rows
        longest = max(len(text) for text in (*column.header.split("\n"), *(row[i] for row in rows)))
        return min(_WRAPPED, longest) if column.wraps else longest

    def _narrowed(self, shown: Sequence[int], most: int) -> dict[int, int]:
        """Return the width of each column, that of the widest text cut down where all of them do not fit."""
        widths = {i: self._width(i) for i in shown}
        names = [i for i in shown if not self.columns[i].right]
        while names and (excess := sum(widths.values()) + _GAP * len(shown) - most) > 0:
            widest = max(names, key=widths.__getitem__)
            others = [widths[i] for i in names if i != widest and widths[i] < widths[widest]]
            least = max(_LEAST, widths[widest] - excess, *others)
            if least >= widths[widest]:
                break
            widths[widest] = least
        return widths

    def _table(self, shown: Sequence[int], widths: Mapping[int, int]) -> Table:
        table = Table(
            title=self.title or None,
            title_style=STYLES["report.title"],
            title_justify="left",
            header_style=STYLES["report.header"],
            box=box.SIMPLE_HEAD,
            show_footer=self.total is not None and any(self.total[i] for i in shown[1:]),
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
                min_width=widths[i],
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*(Text(row[i] if self.columns[i].wraps else broken(row[i], widths[i])) for i in shown))
        return table


def broken(text: str, width: int) -> str:
    """Break a text into lines of a width: a path behind its dots where that can be, else anywhere."""
    lines = [""]
    for piece in re.findall(r"[^.,\s]*[.,\s]*", text) if len(text) > width else [text]:
        if len(lines[-1]) + len(piece.rstrip()) <= width or len(text) <= width:
            lines[-1] += piece
        else:
            lines += [piece[i : i + width] for i in range(0, len(piece), width)]
    return "\n".join(line.rstrip() for line in lines if line)
