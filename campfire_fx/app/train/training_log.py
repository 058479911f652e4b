"""The log of a run: `log.csv`, a row per network and epoch, written and read."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from campfire_fx.app.train.observers import Course, Epoch, Observer
from campfire_fx.base.disk.whole import write_text
from campfire_fx.base.errors import ReportError, TrainError

LOG = "log.csv"
_COLUMNS = {"valid": "valid_accuracy", "valid5": "valid_top5"}  # where it is not the field's name, as it once was


_FIELDS = tuple(field.name for field in fields(Epoch))


class TrainingLog(Observer):
    """Writes `log.csv`, anew from the history, so a resumed run leaves the rows that an uninterrupted one does.

    Args:
        folder: the run's output folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._network = ""
        self._rows: dict[str, Sequence[Epoch]] = {}

    def begin(self, course: Course, history: Sequence[Epoch]) -> None:
        """Begin the rows of a network."""
        self._network = course.network
        self._write(history)

    def epoch(self, step: int, history: Sequence[Epoch]) -> None:  # noqa: ARG002  rows are those of epochs
        """Write the row of the epoch."""
        self._write(history)

    def _write(self, history: Sequence[Epoch]) -> None:
        self._rows[self._network] = tuple(history)
        names = [_COLUMNS.get(name, name) for name in _FIELDS]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["network", *names])
        for title, epochs in self._rows.items():
            table.writerows([title, *asdict(epoch).values()] for epoch in epochs)
        write_text(self.folder / LOG, text.getvalue(), TrainError)


def read_log(path: Path) -> dict[str, tuple[Epoch, ...]]:
    """Read the epochs of each network, by its name; other columns are passed over.

    Raises:
        ReportError: the file holds something else.
    """
    found: dict[str, list[Epoch]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                numbers = {name: _number(row, name) for name in _FIELDS[1:]}
                found.setdefault(row["network"], []).append(Epoch(int(row["epoch"]), **numbers))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ReportError(f"Log at {path}: it cannot be read ({error!r}). Move it away, or train again.") from error
    return {name: tuple(epochs) for name, epochs in found.items()}


def _number(row: Mapping[str, str | None], name: str) -> float | None:
    text = row.get(_COLUMNS.get(name, name)) or row.get(name)
    return float(text) if text else None
