"""The pictures of a front: accuracy over what a network costs, a line for each method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from campfire_fx.report.pictures.canvas import COLOURS, GREY, LINES, MARKERS, PALE, WIDE, figure, label, legend, save
from pareto.plan import DENSE
from pareto.tables import Row

COSTS = {
    "macs": ("macs_ratio", "multiply-accumulates, of dense"),
    "parameters": ("parameters_ratio", "parameters, of dense"),
    "latency": ("latency_64_ratio", "measured time of a batch of 64, of dense"),
}
_FEWEST = 3  # seeds: of two the interval is thirteen times as long as their deviation, and hides the rest
_NOTE = "bars: 95 % intervals over three seeds or more; hollow: new weights; grey line: dense"


def draw(rows: Sequence[Row], folder: Path, title: str) -> list[Path]:
    """Write pareto-macs.png, pareto-parameters.png and pareto-latency.png, and return where."""
    return [_draw(rows, folder / f"pareto-{cost}.png", title, *how) for cost, how in COSTS.items()]


def _draw(rows: Sequence[Row], path: Path, title: str, cost: str, words: str) -> Path:
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(row.run.line, []).append(row)
    drawn, axes = figure(5.6, title=title, note=_NOTE, width=WIDE)
    for row in lines.pop(DENSE, []):
        axes.axhline(100 * row.accuracy.mean, color=GREY, linewidth=1.2, zorder=0)
    for index, (name, members) in enumerate(lines.items()):
        part = sorted(members, key=lambda row: row.numbers[cost] or 0.0)
        axes.errorbar(
            [row.numbers[cost] or 0.0 for row in part],
            [100 * row.accuracy.mean for row in part],
            yerr=[100 * (row.accuracy.half or 0.0) if len(row.seeds) >= _FEWEST else 0.0 for row in part],
            label=name,
            capsize=3,
            markersize=6,
            linewidth=1.2,
            **_look(index, hollow=part[0].run.new_weights),
        )
    label(axes, words, "test images classified correctly (%)")
    axes.grid(color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    if lines:
        legend(axes)
    return save(drawn, path)


def _look(index: int, *, hollow: bool) -> dict[str, Any]:
    """Return colour, marker and kind of line of the index-th method; more methods than colours differ in the others."""
    turn, colour = divmod(index, len(COLOURS))
    look = {
        "color": COLOURS[colour],
        "marker": MARKERS[(colour + turn) % len(MARKERS)],
        "linestyle": LINES[turn % len(LINES)],
    }
    return look | ({"markerfacecolor": "white"} if hollow else {})
