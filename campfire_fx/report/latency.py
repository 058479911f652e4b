"""The report of a latency table: a row per layer, its times over widths, and predicted against measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.text import Text

from campfire_fx.cost.latency_record import LatencyTable, LayerTimes
from campfire_fx.cost.measure import Latency
from campfire_fx.report.numbers import milliseconds, percent, shape
from campfire_fx.report.style import STYLES, Report
from campfire_fx.report.table import Column, FittedTable

_SHARES = (1.0, 0.5, 0.25)
_COLUMNS = (
    Column("layer", right=False),
    Column("operation", 4, right=False),
    Column("in", 3),
    Column("out", 3),
    Column("ms\nfull"),
    Column("ms\nhalf"),
    Column("ms\nquarter", 2),
    Column("share"),
)
_SLIM = (Column("slim\nin", 1), Column("slim\nout", 1), Column("ms\nslim"))
_REST = "Everything else: norms, activations, pooling, Python."
_NO_LAYER = "everything else"


@dataclass(frozen=True, slots=True)
class LatencyReport(Report):
    """Shows a `LatencyTable`, and what it predicts of a slim model; `latency_report` makes it."""

    table: LatencyTable
    widths: Mapping[str, tuple[int, int]] | None = None
    measured_ms: float | None = None
    whole: Latency | None = None

    def __rich__(self) -> Any:
        columns = _COLUMNS if self.widths is None else (*_COLUMNS, *_SLIM)
        rows = [self._row(times) for times in self.table.times]
        layers = [[self._layer_ms(times, share) for times in self.table.times] for share in _SHARES]
        whole = [self._scaled_ms(share) for share in _SHARES]
        rest = [total - sum(each) for total, each in zip(whole, layers, strict=True)]
        rows.append(self._whole_row(_NO_LAYER, rest, self._slim_ms() - sum(self._slim_layers())))
        table = FittedTable("Latency", columns, rows, self._whole_row("the whole model", whole, self._slim_ms()))
        notes = (Text(note, style=STYLES["report.note"]) for note in (_REST, self._measured_on()))
        return Group(table, *(Text(line) for line in self._comparison()), *notes)

    def facts(self) -> dict[str, Any]:
        """Return all numbers, for JSON; times are in milliseconds."""
        slim = None if self.widths is None else {"predicted": self._slim_ms(), "measured": self.measured_ms}
        return {
            "dense": {"predicted": self.table.dense_ms, "measured": self.table.whole_ms},
            "now": None if self.whole is None else asdict(self.whole),
            "slim": slim,
            "table": self.table.facts(),
        }

    def to_json(self) -> str:
        """Return all numbers as JSON text."""
        return json.dumps(self.facts())

    def _row(self, times: LayerTimes) -> tuple[str, ...]:
        full, *others = (self._layer_ms(times, share) for share in _SHARES)
        cells = (
            times.name,
            times.operation,
            str(times.inputs),
            str(times.outputs),
            milliseconds(full),
            *map(milliseconds, others),
        )
        row = (*cells, percent(full / self.table.dense_ms))
        if self.widths is None:
            return row
        inputs, outputs = self.widths.get(times.name, (times.inputs, times.outputs))
        return (*row, str(inputs), str(outputs), milliseconds(self.table.layer_ms(times.name, inputs, outputs)))

    def _whole_row(self, name: str, ms: list[float], slim: float) -> tuple[str, ...]:
        row = (name, "", "", "", *map(milliseconds, ms), percent(ms[0] / self.table.dense_ms))
        return row if self.widths is None else (*row, "", "", milliseconds(slim))

    def _layer_ms(self, times: LayerTimes, share: float) -> float:
        return self.table.layer_ms(times.name, *_scaled(times, share))

    def _scaled_ms(self, share: float) -> float:
        return self.table.total_ms({times.name: _scaled(times, share) for times in self.table.times})

    def _slim_layers(self) -> list[float]:
        known = self.widths or {}
        return [
            self.table.layer_ms(times.name, *known.get(times.name, (times.inputs, times.outputs)))
            for times in self.table.times
        ]

    def _slim_ms(self) -> float:
        return self.table.total_ms(self.widths or {})

    def _comparison(self) -> list[str]:
        lines = [_compared("Dense", self.table.dense_ms, self.table.whole_ms)]
        if (one := self.whole) is not None:
            now, low, high = map(milliseconds, (one.median_ms, one.low_ms, one.high_ms))
            lines.append(f"Timed just now: {now} ms; the middle half of {one.repeats} calls took {low} to {high} ms.")
        if self.widths is not None:
            lines.append(_compared("Slim", self._slim_ms(), self.measured_ms))
        return lines

    def _measured_on(self) -> str:
        setting = self.table.setting
        shapes = ", ".join(shape(dims) for dims in self.table.shapes) or "no tensors"
        threads = "1 thread" if setting.threads == 1 else f"{setting.threads} threads"
        return (
            f"Measured on one call with {shapes}, {self.table.dtype}: {setting.device}, {threads}, torch "
            f"{setting.torch}. Other widths are interpolated."
        )


def latency_report(
    table: LatencyTable,
    widths: Mapping[str, tuple[int, int]] | None = None,
    measured_ms: float | None = None,
    whole: Latency | None = None,
) -> LatencyReport:
    """Return the report of a table.

    Args:
        table: from `latency_table`.
        widths: of a slim model, layer path -> inputs and outputs; others have their full widths.
        measured_ms: of this slim model.
        whole: times of the dense model's calls, of now: those of the table may have been kept.
    """
    return LatencyReport(table, widths, measured_ms, whole)


def _scaled(times: LayerTimes, share: float) -> tuple[int, int]:
    return max(1, round(share * times.inputs)), max(1, round(share * times.outputs))


def _compared(name: str, predicted: float, measured: float | None) -> str:
    known = (
        "" if measured is None else f", {milliseconds(measured)} ms measured ({percent(predicted / measured - 1)} off)"
    )
    return f"{name}: {milliseconds(predicted)} ms predicted{known}."
