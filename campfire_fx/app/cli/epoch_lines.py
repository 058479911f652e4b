"""What a training says while it runs: a line for each epoch, and on a terminal a bar that moves within the epoch."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from campfire_fx.app.cli.terminal import show
from campfire_fx.app.train.observers import Course, Epoch, Observer
from campfire_fx.report.numbers import percent
from campfire_fx.report.style import STYLES, columns

_GAP = "  "
_LAST = 5  # epochs whose median says how long one takes


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the lines: its header, its least width, what it shows of an epoch, and which goes first if narrow."""

    header: str
    width: int
    cell: Callable[[Epoch], str | None]
    drop: int = 0


def _share(value: float | None, places: int = 1) -> str | None:
    return None if value is None else percent(value, places)


_COLUMNS = (
    _Column("loss", 7, lambda epoch: None if epoch.loss is None else f"{epoch.loss:.4f}"),
    _Column("accuracy", 8, lambda epoch: _share(epoch.valid, 2)),
    _Column("top-5", 8, lambda epoch: _share(epoch.valid5, 2), 4),
    _Column("learning rate", 13, lambda epoch: None if epoch.rate is None else f"{epoch.rate:.3g}", 3),
    _Column("sparsity", 8, lambda epoch: _share(epoch.sparsity) if epoch.macs_left is None else None),
    _Column("target", 8, lambda epoch: _share(epoch.target) if epoch.macs_left is None else None, 2),
    _Column("MACs left", 9, lambda epoch: _share(epoch.macs_left)),
)


class EpochLines(Observer):
    """Writes a header for each network and a line for each of its epochs.

    Args:
        console: where to; a bar is shown on terminals alone.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._course = Course("", 0, 0)
        self._shown: Sequence[_Column] = ()
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def begin(self, course: Course, history: Sequence[Epoch]) -> None:
        """Begin with a network."""
        self._course, self._shown = course, ()
        if self._console.is_terminal and course.step < course.epochs * course.per_epoch:
            parts = ("{task.description}", "loss {task.fields[loss]}")
            first, last = (TextColumn(part, markup=False) for part in parts)
            self._bar = Progress(first, BarColumn(), MofNCompleteColumn(), last, console=self._console, transient=True)
            self._task = self._bar.add_task("", total=course.per_epoch, loss="-")
            self._move(course.step, len(history))
            self._bar.start()

    def step(self, step: int, loss: float, rate: float) -> None:  # noqa: ARG002  the line has the rate
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, loss=f"{loss:.4f}")
            self._move(step, (step - 1) // self._course.per_epoch)

    def epoch(self, step: int, history: Sequence[Epoch]) -> None:
        """Write the line of the last epoch."""
        last = history[-1]
        if not self._shown:
            self._shown = self._fitting([column for column in _COLUMNS if column.cell(last) is not None])
            headers = [column.header for column in self._shown]
            show("", on=self._console)
            self._write(("network", "epoch", *headers, "time left"), STYLES["report.header"])
        cells = [column.cell(last) or "" for column in self._shown]
        counted = f"{last.epoch + 1}/{self._course.epochs}"
        self._write((self._course.network, counted, *cells, self._left(history)))
        if self._bar is not None and last.epoch + 1 < self._course.epochs:
            self._move(step, last.epoch + 1)

    def end(self, *, whole: bool) -> None:  # noqa: ARG002  what was stopped is told elsewhere
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _move(self, step: int, epoch: int) -> None:
        assert self._bar is not None
        course = self._course
        done = step - epoch * course.per_epoch
        doing = f"{course.network}, epoch {epoch + 1} of {course.epochs}"
        self._bar.update(
            self._task, completed=done, description=f"{doing}, validating" if done == course.per_epoch else doing
        )

    def _fitting(self, wanted: list[_Column]) -> Sequence[_Column]:
        """Return the columns that the width has room for."""
        room = self._console.width if self._console.is_terminal else columns()
        while sum(self._widths(wanted)) + len(_GAP) * (len(wanted) + 2) > room:
            last = max(wanted, key=lambda column: column.drop)
            if last.drop == 0:
                break
            wanted.remove(last)
        return wanted

    def _widths(self, shown: Sequence[_Column]) -> list[int]:
        course = self._course
        own = (max(len("network"), len(course.network)), max(len("epoch"), 2 * len(str(course.epochs)) + 1))
        return [*own, *(column.width for column in shown), len("time left")]

    def _write(self, cells: Sequence[str], style: str = "") -> None:
        widths = self._widths(self._shown)
        line = _GAP.join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        show(Text(line, style=style, no_wrap=True) if self._console.is_terminal else line, on=self._console)

    def _left(self, history: Sequence[Epoch]) -> str:
        """Return how long the epochs that are left take, as the last ones did."""
        took = statistics.median(epoch.seconds or 0.0 for epoch in history[-_LAST:])
        return str(timedelta(seconds=round(took * (self._course.epochs - len(history)))))
