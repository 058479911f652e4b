"""The report of an attack: a row for each network, as in Campfire's Table 6, and what the differences are worth."""

from __future__ import annotations

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
        parts: list[Any] = [_accuracies(record)]
        if len(record.curves) > 1:
            parts.append(_differences(record))
        return Group(*parts, *(Text(note, style=STYLES["report.note"]) for note in attack_notes(record)))

    def to_json(self) -> str:
        """Return the record as JSON text."""
        return self.record.to_json()


def _accuracies(record: AttackRecord) -> FittedTable:
    columns = [Column("network", right=False), *(Column(f"{epsilon:.4g}") for epsilon in record.epsilons)]
    rows = [(curve.name, *(percent(s.value, 2) for s in record.accuracy(curve))) for curve in record.curves]
    return FittedTable(f"Accuracy under FGSM ({_UNITS.get(record.space, record.space)})", columns, rows)


def _differences(record: AttackRecord) -> FittedTable:
    first, *others = record.curves
    columns = [Column("epsilon"), *(Column(f"{curve.name}\nless {first.name}") for curve in others)]
    rows = [
        (f"{epsilon:.4g}", *(points(curve.against[i]) for curve in others)) for i, epsilon in enumerate(record.epsilons)
    ]
    return FittedTable("Differences in points, and their 95 % intervals", columns, rows)


def points(difference: Interval) -> str:
    """Return a difference of shares as points with its interval: "-0.22 (-1.10 to +0.65)"."""
    value, low, high = (100 * share for share in (difference.value, difference.low, difference.high))
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


def attack_notes(record: AttackRecord) -> list[str]:
    """Return what the numbers of an attack mean, as sentences."""
    told = (
        f"{record.images:,} images; one is {percent(1 / record.images, 2)}. Each network is attacked by its own"
        f" gradient; an image counts if it is classified rightly before and after."
    )
    notes = [told]
    blind = [f"{curve.unmoved:,} of {curve.name}" for curve in record.curves if curve.unmoved]
    if blind:
        notes.append(
            f"Images without a gradient: {', '.join(blind)}. No step was taken on them, which flatters the network."
        )
    return notes
