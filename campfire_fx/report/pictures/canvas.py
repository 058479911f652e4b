"""What all pictures share: a figure without pyplot, how it is told apart, and how it becomes SVG or PNG."""

from __future__ import annotations

import importlib.util
import io
import math
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campfire_fx.base.disk.whole import write_bytes
from campfire_fx.base.errors import ReportError
from campfire_fx.base.hints import install_command
from campfire_fx.report.palette import NETWORKS, OTHERS, PAGE, WEIGHTS
from campfire_fx.report.pictures.vector import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.6  # inches: a picture that a telephone shows, with text that is read there
WIDE = 8.0  # for pictures that stand alone
DPI = 200
TEXT = 10.0  # points: pixels on a telephone, and half as many again on a wide page
SMALL = 9.0
TALLEST = 14.0  # inches; beyond it names of layers are thinned out
_LETTER = 0.53  # of its size: how wide a letter is
_LONGEST = 24  # letters of a layer's name

COLOURS = tuple(colour.light for colour in OTHERS.values())
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), (0, (5, 1)), (0, (1, 1)))
INK, SOFT, GREY, PALE, PAPER = (PAGE[name].light for name in ("ink", "soft", "edge", "line", "paper"))
DENSE, SPARSE, SLIM, _ = (colour.light for colour in NETWORKS.values())
KEPT, ZERO, DEAD = (colour.light for colour in WEIGHTS.values())


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

    from campfire_fx.report.pictures.shown import ShownFigure

    drawn = ShownFigure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(drawn)
    axes = drawn.add_subplot()
    axes.set_facecolor("none")
    _head(drawn, title, note)
    axes.tick_params(which="both", labelsize=SMALL, colors=INK)
    for name, spine in axes.spines.items():
        spine.set_visible(name not in ("top", "right"))
        spine.set_color(GREY)
    return drawn, axes


def _head(drawn: Figure, title: str, note: str) -> None:
    """Write the title, and below it the note, in as many lines as that takes; the layout leaves room for both."""
    width, height = (72 * inches for inches in drawn.get_size_inches())
    size, lines = TEXT + 1, textwrap.wrap(note, int(width / (_LETTER * SMALL)) - 3)
    room = "\n" * math.ceil(len(lines) * SMALL / size)
    drawn.suptitle(f"{title}{room}", x=6 / width, ha="left", fontsize=size, fontweight="bold", color=INK)
    drawn.text(
        6 / width, 1 - (1.7 * size) / height, "\n".join(lines), va="top", fontsize=SMALL, color=SOFT, linespacing=1.2
    )


def looks(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return colour, marker and kind of line for each of several networks, as `plot` takes them.

    Those of a run look the same in every picture; others never look like them.
    """
    own = iter(range(len(names)))
    found = []
    for name in names:
        if name in NETWORKS:
            kind, colour = list(NETWORKS).index(name), NETWORKS[name].light
        else:
            kind = next(own) % len(COLOURS)
            colour = COLOURS[kind]
        found.append({"color": colour, "marker": MARKERS[kind], "linestyle": LINES[kind]})
    return found


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
    """Show the legend: inside where there is room, or below everything."""
    handles, names = axes.get_legend_handles_labels()
    look: dict[str, Any] = {"fontsize": SMALL, "frameon": False, "labelcolor": INK}
    if below:
        drawn = axes.get_figure(root=True)
        assert drawn is not None  # `figure` made both
        fits = int(72 * drawn.get_figwidth() / (_LETTER * SMALL * (max(map(len, names)) + 6)))
        drawn.legend(handles, names, loc="outside lower center", ncols=max(1, min(fits, len(names))), **look)
    else:
        axes.legend(handles, names, loc="best", **look)


def whole_numbers(axes: Axes) -> None:
    """Mark only whole numbers on the x axis."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def layer_rows(axes: Axes, names: Sequence[str], notes: Sequence[tuple[float, str]]) -> None:
    """Write names of layers down the y axis, the first on top, and a note in each row at its x.

    Where the lines would touch, only every n-th is written.
    """
    every = -(-len(names) // int(TALLEST / 0.17))
    shown = range(0, len(names), every)
    for row in shown:
        place, note = notes[row]
        axes.text(place, row, note, va="center", fontsize=SMALL - 0.5, color=INK)
    axes.set_yticks(list(shown), [_short(names[i]) for i in shown], fontsize=SMALL - 0.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _short(name: str) -> str:
    """Return a layer's name without its middle, where it is long."""
    return name if len(name) <= _LONGEST else f"{name[:8]}…{name[9 - _LONGEST :]}"


def rows_height(rows: int) -> float:
    """Return the height of a picture with a bar for each of so many layers, inches."""
    return min(TALLEST, 1.9 + 0.2 * rows)


def png(drawn: Figure) -> bytes:
    """Return a figure as PNG."""
    target = io.BytesIO()
    # No version in the file: what differs between two pictures is what they show.
    drawn.savefig(target, format="png", dpi=DPI, metadata={"Software": None})
    return target.getvalue()


def save(drawn: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG or SVG, and return where.

    Raises:
        ReportError: the name ends in neither .png nor .svg, or the file cannot be written.
    """
    target = Path(path)
    if target.suffix not in (".png", ".svg"):
        raise ReportError(f"Picture {target}: pictures are PNG or SVG. Give a name that ends in .png or .svg.")
    write_bytes(target, png(drawn) if target.suffix == ".png" else svg(drawn).encode(), ReportError)
    return target
