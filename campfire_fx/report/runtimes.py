"""The report of what files and models take in runtimes: a row for each, with how many times as fast as the first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.text import Text

from campfire_fx.cost.runtime_times import BenchRecord, RuntimeTime
from campfire_fx.report.numbers import GUESSED, TIME_NOTE, plural, shape, size, times_as_fast
from campfire_fx.report.style import STYLES, Report
from campfire_fx.report.table import Column, FittedTable

HEADS = ("network", "runtime", "ms", "middle half", "times as fast", "file size")


@dataclass(frozen=True, slots=True)
class BenchReport(Report):
    """Shows a `BenchRecord`."""

    record: BenchRecord

    def __rich__(self) -> Any:
        drops = (0, 0, 0, 1, 0, 2)
        columns = [Column(head, drop, right=i > 1) for i, (head, drop) in enumerate(zip(HEADS, drops, strict=True))]
        notes = (Text(note, style=STYLES["report.note"]) for note in bench_notes(self.record))
        return Group(FittedTable("Times", columns, list(bench_rows(self.record))), *notes)

    def to_json(self) -> str:
        """Return the record as JSON text."""
        return self.record.to_json()


def bench_rows(record: BenchRecord) -> Iterator[tuple[str, ...]]:
    """Yield the cells under `HEADS` of each row."""
    for row in record.rows:
        yield (row.name, row.runtime, *_times(row), _ratio(record, row), "" if row.bytes is None else size(row.bytes))


def bench_notes(record: BenchRecord) -> list[str]:
    """Return what was not timed and why, and how the others were, as sentences."""
    shapes = ", ".join(map(shape, record.shapes)) or "no tensors"
    shapes += GUESSED if record.guessed else ""
    clock = "processor time" if record.threads == 1 else "time on the clock"
    told = f"One call with {shapes}, {plural(record.threads, 'thread')}: medians of {clock}. {TIME_NOTE}"
    return [*(f"{row.name} in {row.runtime}: {row.reason}." for row in record.rows if row.reason), told]


def _times(row: RuntimeTime) -> tuple[str, str]:
    if row.latency is None:
        return "-", "-"
    return _ms(row.latency.median_ms), f"{_ms(row.latency.low_ms)} to {_ms(row.latency.high_ms)}"


def _ratio(record: BenchRecord, row: RuntimeTime) -> str:
    if row.latency is not None and row.latency.ratio is not None:
        return times_as_fast(row.latency.ratio)
    fast = record.times_as_fast(row)
    return "-" if fast is None else f"{fast:.2f}"


def _ms(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
