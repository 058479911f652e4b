"""The page of a sweep: one HTML file with heat maps, curves and tables; the template `sweep.html` lays it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from campfire_fx.app.runs.verdict import settings_told
from campfire_fx.app.sweep.beside import Beside, Here
from campfire_fx.app.sweep.compare import (
    LENGTH,
    RATE,
    REGIME,
    SPARSITY,
    START,
    Axis,
    Change,
    Contrast,
    Mean,
    changes_of,
    contrasts,
    means_by,
    values_of,
)
from campfire_fx.app.sweep.grid import Point, label
from campfire_fx.app.sweep.heat import heat_maps
from campfire_fx.app.sweep.results import Cell
from campfire_fx.app.sweep.work import State
from campfire_fx.base.disk.whole import write_text
from campfire_fx.base.errors import ReportError
from campfire_fx.base.version import __version__
from campfire_fx.report import pictures
from campfire_fx.report.intervals import Interval
from campfire_fx.report.numbers import count, percent, whole
from campfire_fx.report.palette import css_variables

if TYPE_CHECKING:
    from campfire_fx.report.pictures import Figure

PAGE = "sweep.html"
_LINES = 7  # that can be told apart
_OVER = ((SPARSITY, "sparsity asked for (%)", 100), (START, "first epoch of the era", 1),
         (LENGTH, "epochs of the era", 1), (RATE, "highest learning rate", 1))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setting:
    """What all runs of a sweep have in common, for the head of its page."""

    title: str
    facts: Mapping[str, object]
    here: Here


def write_page(state: State, setting: Setting, target: Path, tables: Sequence[Beside] = ()) -> Path:
    """Write the page of a sweep; nothing in the file is fetched from elsewhere.

    Args:
        state: of the sweep.
        setting: what its runs have in common.
        target: the .html file.
        tables: of the paper, filled in.

    Raises:
        ReportError: matplotlib or Jinja2 is not installed, or the file cannot be written.
    """
    pictures.check_installed()
    import jinja2

    from campfire_fx.app import runs

    folders = [Path(__file__).parent, *map(Path, runs.__path__)]  # the second has the layout
    loader = jinja2.FileSystemLoader(folders)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {f.__name__: f for f in (count, percent, whole)}
    changes = changes_of(state.found)
    text = environment.get_template("sweep.html").render(
        state=state,
        setting=setting,
        settings=dict(settings_told(setting.facts)),
        contrasts=[(one, _told(one)) for one in contrasts(changes)],
        maps=list(heat_maps(changes)),
        curves=[pictures.inline_svg(figure, alternative) for figure, alternative in curves(changes)],
        cells=[(cell, label(cell.point), change_told(cell), _span(cell)) for cell in state.cells],
        tables=tables,
        colours=css_variables(),
        version=__version__,
        torch=torch.__version__,
    )
    write_text(target, text, ReportError)
    return target


def curves(changes: Sequence[Change]) -> Iterator[tuple[Figure, str]]:
    """Draw the change over each axis that has several values, a line for each regime, and say what is drawn."""
    regimes = values_of(changes, REGIME)[:_LINES]
    for axis, x, scale in _OVER:
        known = [one for one in changes if axis.value(one.point) is not None]
        if len(values_of(known, axis)) < 2:
            continue
        means = means_by(known, partial(_place, axis))
        lines = {str(regime): list(_line(means, regime, values_of(known, axis), scale)) for regime in regimes}
        most = max(mean.settings for mean in means.values())
        note = f"bars: 95 % over seeds{f'; means over up to {most} settings' if most > 1 else ''}"
        figure = pictures.setting_curves(
            {name: points for name, points in lines.items() if points},
            x=x,
            y="accuracy - dense (points)",
            title=f"Over {axis.name}",
            note=note,
            zero="as dense",
        )
        yield figure, f"Accuracy minus that of dense over {axis.name}, a line for each regime."


def _place(axis: Axis, point: Point) -> tuple[str | None, object]:
    return point.regime, axis.value(point)


def _line(
    means: Mapping[Any, Mean], regime: object, values: Sequence[Any], scale: float
) -> Iterator[pictures.CurvePoint]:
    for value in values:
        mean = means.get((regime, value))
        if mean is not None:
            ends = (100 * mean.interval.low, 100 * mean.interval.high) if mean.interval else (None, None)
            yield pictures.CurvePoint(scale * value, 100 * mean.value, *ends)


def _told(one: Contrast) -> str:
    gain = points(one.gain.value)
    return gain + (f" ({ends_told(one.gain.interval)})" if one.gain.interval else "")


def change_told(cell: Cell) -> str:
    """Return the difference to dense in points, with its interval: over seeds, or of one seed over images."""
    if cell.change is None:
        return ""
    interval = cell.change_over_seeds or cell.change_over_images
    return points(cell.change) + (f" ({ends_told(interval)})" if interval else "")


def points(share: float) -> str:
    """Return a difference of shares in points, with its sign."""
    return f"{100 * share:+.2f}"


def ends_told(interval: Interval) -> str:
    """Return the ends of an interval of differences, in points."""
    return f"{points(interval.low)} to {points(interval.high)}"


def _span(cell: Cell) -> str:
    return f"{percent(cell.accuracy.low, 2)} to {percent(cell.accuracy.high, 2)}"
