"""The report of a sparse model: per layer what was asked, what is there, and what stays dense and why."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.text import Text

from campfire_fx.report.numbers import count, percent, shape
from campfire_fx.report.style import STYLES, Report
from campfire_fx.report.table import Column, FittedTable
from campfire_fx.sparsity.record import CostRecord, LayerSparsity, SparsityRecord

_COLUMNS = (
    Column("layer", right=False),
    Column("operation", 6, right=False),
    Column("weight", 4),
    Column("target", 0),
    Column("true", 0),
    Column("zeros in\nlive kernels", 8),
    Column("dead\nkernels", 7),
    Column("dead\nfilters", 3),
)


@dataclass(frozen=True, slots=True)
class SparsityReport(Report):
    """Shows a `SparsityRecord`."""

    record: SparsityRecord

    def __rich__(self) -> Any:
        record = self.record
        lines: list[Any] = [
            FittedTable(_title(record), _COLUMNS, [_row(layer) for layer in record.layers], _total(record)),
            Text(_summary(record)),
            *(Text(_cost(cost)) for cost in record.costs),
        ]
        if not record.begun:
            lines.append(Text(record.standing, style=STYLES["report.bad"]))
        dense = [(layer.name, layer.reason) for layer in record.layers if layer.reason]
        special = [(layer.name, layer.remark) for layer in record.layers if layer.remark and not layer.reason]
        told = [*_grouped("Left dense", dense), *_grouped("Note", special)]
        told += _grouped("No mask of its own", record.unmasked)
        return Group(*lines, *(Text(sentence, style=STYLES["report.note"]) for sentence in told))

    def to_json(self) -> str:
        """Return the record as JSON text."""
        return json.dumps(asdict(self.record))


def sparsity_report(record: SparsityRecord) -> SparsityReport:
    """Return the report of a record."""
    return SparsityReport(record)


def _title(record: SparsityRecord) -> str:
    state = "masks frozen" if record.frozen else f"epoch {record.epoch}, era {record.era[0]}-{record.era[1]}"
    return f"Sparsity, regime {record.regime} ({state})"


def _row(layer: LayerSparsity) -> tuple[str, ...]:
    return (
        layer.name,
        layer.operation,
        shape(layer.shape),
        percent(layer.target) if not layer.reason else "-",
        percent(layer.true),
        percent(layer.window),
        f"{layer.dead_kernels}/{layer.kernels}",
        f"{layer.dead_filters}/{layer.filters}",
    )


def _total(record: SparsityRecord) -> tuple[str, ...]:
    kernels, window = record.shares
    dead = sum(layer.dead_filters for layer in record.layers)
    filters = sum(layer.filters for layer in record.layers)
    return (
        "all pruned layers",
        "",
        "",
        percent(record.target),
        percent(record.true),
        percent(window),
        percent(kernels),
        f"{dead}/{filters}",
    )


COSTS = {"macs": "multiply-accumulates", "parameters": "parameters", "channels": "channels", "latency": "time"}


def _cost(cost: CostRecord) -> str:
    now = f"After shrinking, the model would have {percent(cost.now)} of the dense {COSTS[cost.name]}"
    if cost.name == "latency":
        now = f"After shrinking, the model would take {percent(cost.now)} of the dense time, by measured layer times"
    if cost.due is None or cost.final is None:
        return f"{now}."
    return f"{now}; at most {percent(cost.due)} is due now, {percent(cost.final)} in the end."


def _summary(record: SparsityRecord) -> str:
    if any(cost.final is not None for cost in record.costs):
        return (
            f"{count(record.zeros)} of {count(record.parameters)} parameters are masked: {percent(record.overall)} of "
            "the model."
        )
    return (
        f"{count(record.zeros)} of {count(record.parameters)} parameters are masked: {percent(record.overall)} of the "
        f"model. Target at the end of the era: {percent(record.final)} of the pruned layers."
    )


def _grouped(what: str, found: Iterable[tuple[str, str]]) -> list[str]:
    """Return a sentence for each reason, with every (path, reason) it holds for."""
    paths: dict[str, list[str]] = {}
    for path, reason in found:
        paths.setdefault(reason.rstrip("."), []).append(path or "the whole model")
    return [f"{what}: {', '.join(those)}: {reason}." for reason, those in paths.items()]
