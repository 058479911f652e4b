"""The report of a capture: what became a graph, what the example decided, and what stayed Python."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.text import Text

from campfire_fx.analysis.captured import Captured, Island
from campfire_fx.report.guards import guard_sentence
from campfire_fx.report.style import STYLES, Report
from campfire_fx.report.table import Column, FittedTable

_COLUMNS = (
    Column("captured", right=False),
    Column("nodes"),
    Column("leaf\nmodules", 2),
    Column("training\ngraph", 3, right=False),
    Column("decided by\nthe example", 1),
)
_QUESTIONS = (Column("line", right=False), Column("question", right=False, wraps=True), Column("answer", right=False))

_WHOLE = "the whole model"


@dataclass(frozen=True, slots=True, eq=False)
class CaptureReport(Report):
    """Shows a `Captured`."""

    captured: Captured

    def __rich__(self) -> Any:
        parts: list[Any] = [FittedTable("Captured", _COLUMNS, [_row(island) for island in self.captured.islands])]
        asked = [s for island in self.captured.islands for s in island.specialisations]
        if asked:
            rows = [(s.where, s.expression, str(s.value)) for s in asked]
            parts.append(FittedTable("Decided by the example", _QUESTIONS, rows))
        parts += guard_sentence(self.captured.guards)
        for path, reason in self.captured.untraced:
            parts.append(Text(f"Not captured: {path or _WHOLE}: {reason}", style=STYLES["report.note"]))
        return Group(*parts)

    def to_json(self) -> str:
        """Return the facts as JSON text."""
        islands = [
            {
                "path": island.path,
                "nodes": len(island.module.graph.nodes),
                "training_graph": island.module.train_graph is not None,
                "specialisations": [
                    {"where": s.where, "expression": s.expression, "value": str(s.value), "guard": s.guard}
                    for s in island.specialisations
                ],
            }
            for island in self.captured.islands
        ]
        return json.dumps({"islands": islands, "untraced": self.captured.untraced})


def capture_report(captured: Captured) -> CaptureReport:
    """Return the report of a capture."""
    return CaptureReport(captured)


def _row(island: Island) -> tuple[str, ...]:
    graph, train = island.module.graph, island.module.train_graph
    modules = {node.target for node in graph.nodes if node.op == "call_module"}
    return (
        island.path or _WHOLE,
        str(len(graph.nodes)),
        str(len(modules)),
        "the same" if train is None else f"its own, {len(train.nodes)} nodes",
        str(len(island.specialisations)),
    )
