"""Coupled channels for people: a row for each set, and what has to stay, with the reason."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.text import Text

from campfire_fx.report.numbers import count, listed, percent, plural
from campfire_fx.report.style import STYLES, Report
from campfire_fx.report.table import Column, FittedTable
from campfire_fx.sparsity.channels.costs import set_costs
from campfire_fx.sparsity.channels.coupling import CoupledSet, Coupling

_MOST_LAYERS = 2  # of a set that are named
_MOST_PLACES = 4  # of a reason
_COLUMNS = (
    Column("set", right=False),
    Column("channels"),
    Column("written by", 3, right=False, wraps=True),
    Column("read by", 4, right=False, wraps=True),
    Column("parameters\nof one", 2),
    Column("MACs\nof one", 1),
    Column("parameters\nof all"),
    Column("MACs\nof all"),
)


@dataclass(frozen=True, slots=True, eq=False)
class CouplingReport(Report):
    """Shows a `Coupling`: costs of a set are parts of the whole model's."""

    coupling: Coupling

    def __rich__(self) -> Any:
        rows = [_row(one, facts) for one, facts in zip(self.coupling.sets, self.facts()["sets"], strict=True)]
        lines: list[Any] = [FittedTable("Coupled channels", _COLUMNS, rows)]
        if not rows:
            lines = [Text("No channel of this model can go.")]
        return Group(*lines, *(Text(line, style=STYLES["report.note"]) for line in self._stays()))

    def _stays(self) -> list[str]:
        places: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for one in self.coupling.stays:
            places[one.reason.rstrip(".")][one.where or "the whole model"] += one.channels
        told = []
        for reason, found in places.items():
            named = [f"{plural(channels, 'channel')} at {where}" for where, channels in found.items()]
            told.append(f"Stays: {listed(named, _MOST_PLACES)}: {reason}.")
        return told

    def facts(self) -> dict[str, Any]:
        """Return all sets, with their costs in numbers and as parts of the model's, and what stays."""
        dense = self.coupling.dense
        return {
            "sets": [
                {
                    "name": one.name,
                    "groups": one.size,
                    "channels": one.size * one.channels,
                    "writers": list(one.writers),
                    "readers": list(one.readers),
                    "norms": list(one.norms),
                    **{key: value for key, value in asdict(cost).items() if key != "name"},
                    "parameters_share": _part(cost.all_parameters, dense["parameters"]),
                    "macs_share": _part(cost.all_macs, dense["macs"]),
                }
                for one, cost in zip(self.coupling.sets, set_costs(self.coupling), strict=True)
            ],
            "stays": [asdict(one) for one in self.coupling.stays],
        }

    def to_json(self) -> str:
        """Return the facts as JSON text."""
        return json.dumps(self.facts())


def coupling_report(coupling: Coupling) -> CouplingReport:
    """Return the report of what `coupled_channels` found."""
    return CouplingReport(coupling)


def _part(value: float, whole: float) -> float:
    return value / whole if whole else 0.0


def _row(one: CoupledSet, facts: dict[str, Any]) -> tuple[str, ...]:
    return (
        one.name,
        str(one.size) if one.channels == 1 else f"{one.size} x {one.channels}",
        listed(one.writers, _MOST_LAYERS),
        listed(one.readers, _MOST_LAYERS),
        count(facts["parameters"]),
        count(facts["macs"]),
        percent(facts["parameters_share"]),
        percent(facts["macs_share"]),
    )
