"""The picture of a comparison: accuracy against the weights that are left, a line for each method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comparison_runs import DENSE
from comparison_tables import Row

from campfire_fx.pictures.canvas import PALE, figure, label, legend, looks, save


def draw(rows: Sequence[Row], path: Path, title: str) -> None:
    """Write a PNG: filled points are sparse networks, hollow ones the slim widths from scratch."""
    lines: dict[str, list[Row]] = {}
    for row in rows:
        if row.same_as < len(row.seeds):  # what is dense anyway has its point already
            lines.setdefault(row.method, []).append(row)
    drawn, axes = figure(4.6, title=title, note="bars: 95 % intervals over seeds; hollow: slim widths from scratch")
    for (method, members), look in zip(lines.items(), looks(list(lines)), strict=True):
        for scratch in (False, True):
            part = sorted((row for row in members if row.scratch == scratch), key=_size)
            if part:
                _curve(axes, part, look, method)
    if DENSE in lines:
        axes.axhline(100 * lines[DENSE][0].accuracy.mean, color=PALE, linewidth=1.2, zorder=0)
    label(axes, "weights that are not zero", "test images classified rightly (%)")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(left=0)
    axes.grid(color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    legend(axes)
    save(drawn, path)


def _curve(axes: Any, part: Sequence[Row], look: dict[str, Any], method: str) -> None:
    hollow = part[0].scratch
    axes.errorbar(
        [_size(row) for row in part],
        [100 * row.accuracy.mean for row in part],
        yerr=[100 * (row.accuracy.half or 0.0) for row in part],
        label=None if hollow else method,
        capsize=3,
        markersize=6,
        linewidth=1.2,
        markerfacecolor="white" if hollow else look["color"],
        **look | ({"linestyle": "none"} if hollow else {}),
    )


def _size(row: Row) -> float:
    return row.facts["nonzero"] or 0.0
