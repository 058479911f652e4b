"""The report of an acceleration: a row per layer with the time of each form, and the network before and after."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.text import Text

from campfire_fx.analysis.plan import Verification
from campfire_fx.cost.acceleration_record import Acceleration, LayerChoice
from campfire_fx.report.numbers import GUESSED, TIME_NOTE, count, milliseconds, percent, plural, shape, times_as_fast
from campfire_fx.report.proof import proof_line
from campfire_fx.report.style import STYLES, Report
from campfire_fx.report.table import Column, FittedTable

_FIRST = (
    Column("layer", right=False),
    Column("operation", 7, right=False),
    Column("weight", 4),
    Column("reads", 6),
    Column("MACs", 5),
    Column("zeros", 2),
)
_LAST = (
    Column("form", right=False),
    Column("useful\nGF/s", 3),
    Column("with it", 8, right=False),
    Column("why", 1, right=False, wraps=True),
)
_WHOLE = (Column("network", right=False), Column("ms"), Column("middle half", 1), Column("times as fast"))


@dataclass(frozen=True, slots=True)
class AccelerationReport(Report):
    """Shows what `accelerate` has measured; `max_rows`: how many layers are listed, None for all."""

    acceleration: Acceleration
    verification: Verification | None
    max_rows: int | None = None

    def __rich__(self) -> Any:
        return Group(self._layers(), self._whole(), *self._sentences())

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers; times are in milliseconds."""
        proof = None if self.verification is None else asdict(self.verification)
        return {**self.acceleration.to_dict(), "verification": proof}

    def to_json(self) -> str:
        """Return all numbers as JSON text."""
        return json.dumps(self.to_dict())

    def _layers(self) -> FittedTable:
        layers = self.acceleration.layers
        shown = layers if self.max_rows is None else layers[: self.max_rows]
        forms = list(dict.fromkeys(time.form for layer in layers for time in layer.times))
        columns = (*_FIRST, *(Column("ms\n" + form.replace(" ", "\n")) for form in forms), *_LAST)
        title = "Layers" if len(shown) == len(layers) else f"Layers (first {len(shown)} of {len(layers)})"
        return FittedTable(title, columns, [_row(layer, forms) for layer in shown])

    def _whole(self) -> FittedTable:
        facts = self.acceleration
        dense = min(latency.median_ms for form, latency in facts.whole.items() if form != "accelerated")
        rows = [
            (
                form,
                milliseconds(latency.median_ms),
                f"{milliseconds(latency.low_ms)} to {milliseconds(latency.high_ms)}",
                times_as_fast(latency.ratio) if latency.ratio else f"{dense / latency.median_ms:.2f}",
            )
            for form, latency in facts.whole.items()
        ]
        return FittedTable("Network", _WHOLE, rows)

    def _sentences(self) -> list[Text]:
        facts = self.acceleration
        texts = [proof_line(self.verification)]
        if facts.chosen != "accelerated":
            texts.append(
                Text(
                    f"No form of the layers made the whole network faster: it is {facts.chosen}, with norms folded.",
                    style=STYLES["report.bad"],
                )
            )
        kernels = facts.kernels.rstrip(".")
        measured = f"Measured on {facts.processor} with {plural(facts.threads, 'thread')}; kernels: {kernels}."
        if facts.guessed:
            read = next((shape(layer.inputs[0]) for layer in facts.layers), "its shape")
            measured += f" The first layer read {read}{GUESSED}."
        measured += f" {TIME_NOTE}" if any(latency.ratio for latency in facts.whole.values()) else ""
        return [*texts, Text(measured, style=STYLES["report.note"])]


def acceleration_report(
    acceleration: Acceleration, verification: Verification | None, *, max_rows: int | None = None
) -> AccelerationReport:
    """Return the report of what `accelerate` gave."""
    return AccelerationReport(acceleration, verification, max_rows)


def _row(layer: LayerChoice, forms: list[str]) -> tuple[str, ...]:
    times = [layer.ms(form) for form in forms]
    speed = layer.useful_gflops
    return (
        layer.name,
        layer.operation,
        shape(layer.weight),
        ", ".join(dict.fromkeys(shape(dims) for dims in layer.inputs)),
        count(layer.macs) if layer.weight else "",
        percent(layer.zeros, 0) if layer.weight else "",
        *("-" if ms is None else f"{ms:.3f}" for ms in times),
        layer.form,
        "-" if not speed else f"{speed:.0f}",
        ", ".join(layer.fused),
        layer.reason,
    )
