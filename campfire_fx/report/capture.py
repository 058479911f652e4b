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
        parts += guard_sentence(self.captured.guards, self.captured.variants)
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
                "variants": [told for told, _ in island.module.told],
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
    variants = island.module.graph_variants
    modules = {node.target for v in variants for node in v.graph.nodes if node.op == "call_module"}
    trains = [f"its own, {len(v.train_graph.nodes)} nodes" if v.train_graph else "the same" for v in variants]
    return (
        island.path or _WHOLE,
        ", ".join(str(len(v.graph.nodes)) for v in variants),
        str(len(modules)),
        ", ".join(dict.fromkeys(trains)),
        str(len(island.specialisations)),
    )
