"""What all pictures share: a figure without pyplot, its colours, and how it becomes PNG."""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campfire_fx.base.disk.whole import write_bytes
from campfire_fx.base.errors import ReportError
from campfire_fx.base.hints import install_command

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 8.0  # inches; at 100 dots each the 800 pixels that a page shows
DPI = 200  # twice that, so that it stays sharp on dense screens
TEXT = 9.5  # points: 13 pixels at 800
SMALL = 8.0
TALLEST = 14.0  # inches; beyond it names of layers are thinned out

# Okabe and Ito's colours can be told apart with every kind of colour vision; a marker of its own says the same again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), (0, (5, 1)), (0, (1, 1)))
BLUE, ORANGE, GREEN = COLOURS[:3]
_OF_A_RUN = ("dense", "sparse", "slim", "slim from scratch")  # look the same in every picture
GREY, PALE, INK = "#8C8C8C", "#D9D9D9", "#222222"


def installed() -> bool:
    """Return whether pictures can be drawn here."""
    try:
        return importlib.util.find_spec("matplotlib") is not None
    except ValueError:  # it is blocked: sys.modules has None for it
        return False


def check_installed() -> None:
    """Raise a ReportError if pictures cannot be drawn here; to be asked before long work that ends in one."""
    if not installed():
        raise ReportError(f"Picture: matplotlib, which draws it, is not installed. Run {install_command('plot')}.")


def figure(height: float, *, title: str, note: str = "", width: float = WIDTH) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes, a title, and a smaller line below it that says what is shown.

    Raises:
        ReportError: matplotlib is not installed.
    """
    check_installed()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(drawn)
    axes = drawn.add_subplot()
    heading = f"{title}\n" if note else title
    axes.set_title(heading, loc="left", fontsize=TEXT + 1.5, fontweight="bold", color=INK, pad=8)
    if note:
        axes.annotate(
            note, (0, 1), (0, 7), xycoords="axes fraction", textcoords="offset points", fontsize=SMALL, color="#555555"
        )
    axes.tick_params(labelsize=SMALL + 0.5, colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return drawn, axes


def looks(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return colour, marker and kind of line for each of several networks, as `plot` takes them."""
    taken = [_OF_A_RUN.index(name) for name in names if name in _OF_A_RUN]
    free = iter([i for i in range(len(COLOURS) + len(names)) if i not in taken])
    order = [_OF_A_RUN.index(name) if name in _OF_A_RUN else next(free) for name in names]
    kinds = [i % len(COLOURS) for i in order]
    return [{"color": COLOURS[i], "marker": MARKERS[i], "linestyle": LINES[i]} for i in kinds]


def over_epochs(axes: Axes, era: tuple[int, int] | None, y: str) -> None:
    """Make the x axis one of epochs, and shade the pruning era."""
    if era is not None:
        axes.axvspan(*era, color=PALE, alpha=0.45, linewidth=0, label="pruning era")
    whole_numbers(axes)
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    label(axes, "epoch, counted from 0", y)


def label(axes: Axes, x: str, y: str) -> None:
    """Name both axes, units included."""
    axes.set_xlabel(x, fontsize=TEXT, color=INK)
    axes.set_ylabel(y, fontsize=TEXT, color=INK)


def legend(axes: Axes, *, below: bool = False) -> None:
    """Show the legend: inside where there is room, or in a line below everything."""
    handles, names = axes.get_legend_handles_labels()
    if below:
        drawn = axes.get_figure(root=True)
        assert drawn is not None  # `figure` made both
        drawn.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=SMALL + 0.5, frameon=False)
    else:
        axes.legend(handles, names, loc="best", fontsize=SMALL + 0.5, frameon=False)


def whole_numbers(axes: Axes) -> None:
    """Mark only whole numbers on the x axis."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def layer_rows(axes: Axes, names: Sequence[str], notes: Sequence[tuple[float, str]]) -> None:
    """Write names of layers down the y axis, the first on top, and a note in each row at its x.

    Where the lines would touch, only every n-th is written.
    """
    every = -(-len(names) // int(TALLEST / 0.17))
    shown = range(0, len(names), every)
    for row in shown:
        place, note = notes[row]
        axes.text(place, row, note, va="center", fontsize=SMALL - 0.5, color=INK)
    axes.set_yticks(list(shown), [names[i] for i in shown], fontsize=SMALL)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def rows_height(rows: int) -> float:
    """Return the height of a picture with a bar for each of so many layers, inches."""
    return min(TALLEST, 1.7 + 0.23 * rows)


def png(drawn: Figure) -> bytes:
    """Return a figure as PNG."""
    target = io.BytesIO()
    # No version in the file: what differs between two pictures is what they show.
    drawn.savefig(target, format="png", dpi=DPI, metadata={"Software": None})
    return target.getvalue()


def save(drawn: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, and return where.

    Raises:
        ReportError: the name does not end in .png, or the file cannot be written.
    """
    target = Path(path)
    if target.suffix != ".png":
        raise ReportError(f"Picture {target}: pictures are PNG. Give a name that ends in .png.")
    write_bytes(target, png(drawn), ReportError)
    return target
