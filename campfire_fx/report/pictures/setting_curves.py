"""What a setting does: a line for each kind of training over the values of one axis of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from campfire_fx.base.errors import ReportError
from campfire_fx.report.pictures.canvas import GREY, PALE, SMALL, SOFT, figure, label, legend, looks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A value at a place of the axis, and the ends of its interval where there is one."""

    x: float
    value: float
    low: float | None = None
    high: float | None = None


def setting_curves(
    lines: Mapping[str, Sequence[CurvePoint]], *, x: str, y: str, title: str, note: str = "", zero: str = ""
) -> Figure:
    """Draw a line for each kind of training.

    Args:
        lines: by name, points in the order of the axis.
        x: what the axis is, with its unit.
        y: what the values are, with their unit.
        title: above the picture.
        note: below the title.
        zero: what a value of zero stands for, where a line is to be drawn there.

    Raises:
        ReportError: there is nothing to draw, or matplotlib is not installed.
    """
    if not any(lines.values()):
        raise ReportError(f"Curves over {x}: there is no point. Give at least one.")
    drawn, axes = figure(3.6 + 0.2 * (len(lines) // 3), title=title, note=note)
    for look, (name, points) in zip(looks(list(lines)), lines.items(), strict=True):
        # Where a point has no interval, its bar has no length.
        ends = [(p.value if p.low is None else p.low, p.value if p.high is None else p.high) for p in points]
        below = [p.value - low for p, (low, _) in zip(points, ends, strict=True)]
        above = [high - p.value for p, (_, high) in zip(points, ends, strict=True)]
        axes.errorbar(
            [point.x for point in points],
            [point.value for point in points],
            yerr=[below, above],
            label=name,
            markersize=5,
            linewidth=1.4,
            elinewidth=0.8,
            capsize=2.5,
            **look,
        )
    if zero:
        axes.axhline(0, color=GREY, linewidth=0.9, zorder=0)
        axes.annotate(zero, (1, 0), (0, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                      ha="right", fontsize=SMALL, color=SOFT)  # fmt: skip
    axes.set_xticks(sorted({point.x for points in lines.values() for point in points}))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    label(axes, x, y)
    legend(axes)
    return drawn
