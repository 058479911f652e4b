"""The report of what a model is made of: a row for each module, with the shape of its output and what it costs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group
from rich.text import Text

from campfire_fx.cost.modules import ModuleCost, ModuleCosts
from campfire_fx.report.numbers import cost_note, count, listed, percent, shape, whole
from campfire_fx.report.style import STYLES, Report
from campfire_fx.report.table import Column, FittedTable

_COLUMNS = (
    Column("layer", right=False),
    Column("operation", 1, right=False),
    Column("output shape", right=False),
    Column("weight", 3, right=False),
    Column("parameters"),
    Column("MACs"),
    Column("of all\nMACs", 2),
)
_LEFT_OUT = "Layers without parameters that keep the shape of their input (activations, dropout) are not listed."


@dataclass(frozen=True, slots=True)
class ModulesReport(Report):
    """Shows a `ModuleCosts`.

    Attributes:
        costs: of the modules.
        inputs: shapes of the tensors of the call that was measured.
        kept: why the channels of a layer have to stay, by its path.
        complete: list all modules, those too that cost nothing and keep the shape.
        guessed: whether nothing said what the model is called with.
    """

    costs: ModuleCosts
    inputs: tuple[tuple[int, ...], ...]
    kept: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False
    guessed: bool = False

    def __rich__(self) -> Any:
        costs = self.costs
        rows = [self._row(one) for one in self.listed()]
        parameters, macs = costs.rest
        if parameters or macs:
            part = percent(macs / max(1, costs.cost.total))
            rows.append(("everything else", "", "", "", whole(parameters), count(macs), part))
        total = ("the whole model", "", "", "", whole(costs.parameters), count(costs.cost.total), "")
        texts = (Text(note, style=STYLES["report.note"]) for note in self._notes())
        return Group(FittedTable("Layers", _COLUMNS, rows, total), *texts)

    def _notes(self) -> Iterator[str]:
        places: dict[str, list[str]] = {}
        for one in self.listed():
            if one.name in self.kept:
                places.setdefault(self.kept[one.name], []).append(one.name)
        yield from (f"All channels stay of {listed(names)}: {reason}." for reason, names in places.items())
        if self.costs.idle:
            yield f"Not run in evaluation: {listed(self.costs.idle)}."
        yield self.note()
        if len(self.listed()) < len(self.costs.modules):
            yield _LEFT_OUT

    def note(self) -> str:
        """Return what the costs were measured on, and which operations they leave out."""
        return cost_note(self.inputs, self.costs.cost, guessed=self.guessed)

    def listed(self) -> list[ModuleCost]:
        """Return the modules that are rows."""
        return [one for one in self.costs.modules if self.complete or _matters(one)]

    def facts(self) -> list[dict[str, Any]]:
        """Return a dict for each row, for JSON."""
        return [dataclasses.asdict(one) | {"pinned": self.kept.get(one.name)} for one in self.listed()]

    def to_json(self) -> str:
        """Return all numbers as JSON text."""
        return json.dumps(self.facts())

    def _row(self, one: ModuleCost) -> tuple[str, ...]:
        return (
            one.name or "the model",
            one.operation,
            ", ".join(map(shape, one.output)),
            shape(one.weight),
            whole(one.parameters) if one.parameters else "-",
            count(one.macs) if one.macs else "-",
            percent(one.macs / self.costs.cost.total) if one.macs else "-",
        )


def _matters(one: ModuleCost) -> bool:
    return bool(one.parameters or one.macs or not one.keeps_shape)
