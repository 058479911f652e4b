"""How reports look: one table of style names, and what every report can do."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from io import StringIO
from typing import Any

from rich.console import Console
from rich.theme import Theme

from campfire_fx.base.characters import legible
from campfire_fx.base.records import Record

STYLES = {
    "report.title": "bold",
    "report.header": "bold cyan",
    "report.layer": "default",
    "report.good": "green",
    "report.bad": "red",
    "report.note": "dim",
    "report.total": "bold",
}
THEME = Theme(STYLES)
PLAIN_WIDTH = 120


class Report(Record):
    """Base of reports: rich prints them in colour, a notebook shows tables; `print` gives text as wide as the terminal.

    Their repr is the line of the record that they show.
    """

    __slots__ = ()

    def _told(self) -> Iterator[str]:
        fields = (getattr(self, field.name) for field in dataclasses.fields(self))  # type: ignore[arg-type]
        record = next((value for value in fields if isinstance(value, Record)), None)
        yield from super()._told() if record is None else record._told()
        yield "print() shows all"

    def picture(self) -> Any:
        """Return a matplotlib Figure that a notebook shows in the place of text; None where there is none."""
        return None

    def __rich__(self) -> Any:
        raise TypeError(f"{type(self).__name__} does not say how it is shown")

    def __str__(self) -> str:
        return legible(plain(self, columns()))


def columns() -> int:
    """Return how wide plain text may be: as the terminal, or COLUMNS; where there is neither, PLAIN_WIDTH."""
    return shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns


def plain(renderable: Any, width: int = PLAIN_WIDTH) -> str:
    """Render to plain text of a given width, without colours or trailing spaces."""
    target = StringIO()
    look: dict[str, Any] = {"width": width, "color_system": None, "theme": THEME, "highlight": False}
    Console(file=target, force_jupyter=False, **look).print(renderable)  # in a notebook rich would show it at once
    return "\n".join(line.rstrip() for line in target.getvalue().splitlines())
