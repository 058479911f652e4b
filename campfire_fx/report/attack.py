"""The report of an attack: a row for each network, as in Campfire's Table 6, and what the differences are worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.text import Text

from campfire_fx.report.attack_record import AttackRecord
from campfire_fx.report.intervals import Interval
from campfire_fx.report.numbers import percent
from campfire_fx.report.style import STYLES, Report
from campfire_fx.report.table import Column, FittedTable

_UNITS = {"raw": "epsilon on images from 0 to 1", "normalised": "epsilon in standard deviations of each channel"}


@dataclass(frozen=True, slots=True)
class AttackReport(Report):
    """Shows an `AttackRecord`."""

    record: AttackRecord

    def __rich__(self) -> Any:
        record = self.record
        parts: list[Any] = []
        for title, heads, rows in attack_tables(record):
            columns = [Column(head.replace(" - ", "\n- "), right=i > 0) for i, head in enumerate(heads)]
            parts.append(FittedTable(title, columns, rows))
        return Group(*parts, *(Text(note, style=STYLES["report.note"]) for note in attack_notes(record)))

    def to_json(self) -> str:
        """Return the record as JSON text."""
        return self.record.to_json()


def attack_tables(record: AttackRecord) -> Iterator[tuple[str, list[str], list[tuple[str, ...]]]]:
    """Yield title, heads and rows: accuracies, a network to a row; of several networks, their differences, too."""
    epsilons = [f"{epsilon:.4g}" for epsilon in record.epsilons]
    rows = [(curve.name, *(percent(share.value, 2) for share in record.accuracy(curve))) for curve in record.curves]
    yield f"Accuracy under FGSM ({_UNITS.get(record.space, record.space)})", ["accuracy at epsilon", *epsilons], rows
    first, *others = record.curves
    if others:
        heads = ["epsilon", *(f"{curve.name} - {first.name}" for curve in others)]
        rows = [(e, *(points(curve.against[i]) for curve in others)) for i, e in enumerate(epsilons)]
        yield "Differences in percentage points, with 95 % intervals", heads, rows


def points(difference: Interval) -> str:
    """Return a difference of shares as points with its interval: "-0.22 (-1.10 to +0.65)"."""
    value, low, high = (100 * share for share in (difference.value, difference.low, difference.high))
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


def attack_notes(record: AttackRecord) -> list[str]:
    """Return what the numbers of an attack mean, as sentences."""
    told = (
        f"{record.images:,} images; one is {percent(1 / record.images, 2)}. Each network is attacked by its own"
        f" gradient; an image counts if it is classified correctly before and after."
    )
    notes = [told]
    blind = [f"{curve.unmoved:,} of {curve.name}" for curve in record.curves if curve.unmoved]
    if blind:
        notes.append(
            f"Images without a gradient: {', '.join(blind)}. No step was taken on them, which flatters the network."
        )
    return notes
