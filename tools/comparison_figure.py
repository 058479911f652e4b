"""The picture of a comparison: accuracy against the weights that are left, or, of many methods, a row for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comparison_runs import DENSE
from comparison_tables import Row

from campfire_fx.report.pictures.canvas import (
    COLOURS,
    GREY,
    PALE,
    WIDE,
    figure,
    label,
    legend,
    looks,
    rows_height,
    save,
)

_NOTE = "bars: 95 % intervals over seeds; hollow: slim widths from scratch"


def draw(rows: Sequence[Row], path: Path, title: str) -> None:
    """Write a PNG: filled points are sparse networks, hollow ones the slim widths from scratch."""
    lines: dict[str, list[Row]] = {}
    for row in rows:
        if row.same_as < len(row.seeds):  # what is dense anyway has its point already
            lines.setdefault(row.method, []).append(row)
    if len(lines) > len(COLOURS):
        _draw_rows(lines, path, title)
    else:
        _draw_lines(lines, path, title)


def _draw_rows(lines: dict[str, list[Row]], path: Path, title: str) -> None:
    """More methods than can be told apart by colour: a row for each, the most accurate on top."""
    dense = lines.pop(DENSE, [])
    names = sorted(lines, key=lambda name: -max(row.accuracy.mean for row in lines[name]))
    sparsities = sorted({row.sparsity for members in lines.values() for row in members})
    drawn, axes = figure(
        rows_height(len(names)), title=title, note=f"{_NOTE}; line: dense" if dense else _NOTE, width=WIDE
    )
    for sparsity, look in zip(sparsities, looks([f"{s:g}" for s in sparsities]), strict=True):
        found = [(i, row) for i, name in enumerate(names) for row in lines[name] if row.sparsity == sparsity]
        for scratch in (False, True):
            part = [(i, row) for i, row in found if row.scratch == scratch]
            axes.errorbar(
                [100 * row.accuracy.mean for _, row in part],
                [i for i, _ in part],
                xerr=[100 * (row.accuracy.half or 0.0) for _, row in part],
                label=None if scratch else f"{100 * sparsity:g} %",
                markersize=7,
                markerfacecolor="white" if scratch else look["color"],
                **look | {"linestyle": "none"},
            )
    for row in dense:
        axes.axvline(100 * row.accuracy.mean, color=GREY, linewidth=1.2, zorder=0)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    label(axes, "test images classified correctly (%)", "")
    axes.grid(color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    legend(axes, below=True)
    save(drawn, path)


def _draw_lines(lines: dict[str, list[Row]], path: Path, title: str) -> None:
    drawn, axes = figure(4.6, title=title, note=_NOTE, width=WIDE)
    for (method, members), look in zip(lines.items(), looks(list(lines)), strict=True):
        for scratch in (False, True):
            part = sorted((row for row in members if row.scratch == scratch), key=_size)
            if part:
                _curve(axes, part, look, method)
    if DENSE in lines:
        axes.axhline(100 * lines[DENSE][0].accuracy.mean, color=PALE, linewidth=1.2, zorder=0)
    label(axes, "weights that are not zero", "test images classified correctly (%)")
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
