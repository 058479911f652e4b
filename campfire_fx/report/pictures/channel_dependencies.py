"""Which layers share channels: a row for each layer, sum and concatenation, in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from campfire_fx.base.errors import ReportError
from campfire_fx.report.pictures.canvas import GREY, INK, PALE, SMALL, figure
from campfire_fx.report.sets import SharedSet, set_of, shared_sets

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _BOX, _LANE, _GAP = 0.26, 0.2, 0.13, 0.18  # inches: a row, its box, between lines beside, between columns
MOST_ROWS = 1000  # matplotlib draws no more than 65,536 pixels
_KEPT = "#C0392B"
_DASHED = (0, (3, 1.5))


def channel_dependencies(graph: nx.DiGraph, *, title: str = "Layers that share channels") -> Figure:
    """Draw a dependency graph: layers of one colour have one coupled set of channels, which are removed together.

    Lines beside the rows lead from a layer to those further down that take its channels: solid to a layer that mixes
    them, dashed to one that hands them on, and must have the same.

    Args:
        graph: from `dependency_graph`; colours are those of its `coupling`.
        title: above the picture.

    Raises:
        ReportError: the graph is too large for a picture, or matplotlib is not installed.
    """
    if graph.number_of_nodes() > MOST_ROWS:
        raise ReportError(
            f"Dependency picture: {graph.number_of_nodes():,} rows are more than {MOST_ROWS:,}. Write a .dot file."
        )
    shared = shared_sets(graph)
    columns = list(zip(*(_cells(node, data, shared) for node, data in graph.nodes(data=True)), strict=True))
    widths = [max(map(_width, column)) + _GAP for column in columns]
    lanes = _lanes(graph)
    left = _LANE * (2 + max(lanes.values(), default=-1))
    legend = list(_legend(shared))
    beside = left + sum(widths) + 1.5 * _GAP
    height = _ROW * max(graph.number_of_nodes(), len(legend))
    width = beside + 0.4 + max(_width(entry[1]) for entry in legend)
    note = "one colour: one coupled set, removed together" if shared else "lines lead to those that take the channels"
    drawn, axes = figure(height + 0.8, title=title, note=note, width=width + 0.3)
    axes.set(xlim=(0, width), ylim=(height, -0.5 * _ROW))
    axes.axis("off")
    _rows(axes, graph, columns, widths, left, shared)
    _lines(axes, graph, lanes, left, shared)
    for i, entry in enumerate(legend):
        _entry(axes, entry, beside, _ROW * i)
    return drawn


def _cells(node: Any, data: Mapping[str, Any], shared: Mapping[str, SharedSet]) -> tuple[str, ...]:
    """Return the texts of a row: name, operation, channels, and number of its set."""
    channels = f"{data['channels_in']} \N{RIGHTWARDS ARROW} {data['channels_out']}" if data["channels_in"] else ""
    if data["kind"] in ("input", "output"):
        return str(node), "", str(data["channels_out"] or ""), ""
    belongs = set_of(data, shared)
    return str(node), data["operation"], channels, str(belongs.number) if belongs else ""


def _width(text: str) -> float:
    """Return the width of a text in inches."""
    from matplotlib.textpath import TextPath

    return TextPath((0, 0), text, size=SMALL).get_extents().width / 72 if text else 0.0


def _lanes(graph: nx.DiGraph) -> dict[Any, int]:
    """Return for each node whose channels go further than to the next row the lane of its line, 0 the innermost.

    Lines that run beside the same rows have different lanes; short ones lie inside.
    """
    row = {node: i for i, node in enumerate(graph.nodes)}
    spans = {node: (row[node], max(row[other] for other in far)) for node in graph if (far := _far(graph, row, node))}
    lanes: dict[Any, int] = {}
    for node, (start, end) in sorted(spans.items(), key=lambda item: item[1][1] - item[1][0]):
        taken = {lane for other, lane in lanes.items() if spans[other][0] <= end and start <= spans[other][1]}
        lanes[node] = next(lane for lane in range(len(taken) + 1) if lane not in taken)
    return lanes


def _far(graph: nx.DiGraph, row: Mapping[Any, int], node: Any) -> list[Any]:
    return [other for other in graph.successors(node) if row[other] != row[node] + 1]


def _rows(
    axes: Axes,
    graph: nx.DiGraph,
    columns: list[tuple[str, ...]],
    widths: list[float],
    left: float,
    shared: Mapping[str, SharedSet],
) -> None:
    """Draw the boxes and what stands in them."""
    from matplotlib.patches import FancyBboxPatch

    starts = [left + sum(widths[:i]) for i in range(len(widths))]
    for i, (_, data) in enumerate(graph.nodes(data=True)):
        belongs = set_of(data, shared)
        fill = "white" if data["kind"] not in ("input", "output") else PALE
        axes.add_patch(
            FancyBboxPatch(
                (left, _ROW * i - _BOX / 2),
                sum(widths),
                _BOX,
                boxstyle="round,pad=0,rounding_size=0.04",
                facecolor=belongs.fill if belongs else fill,
                edgecolor=_KEPT if data["pinned"] and data["kind"] not in ("input", "output") else GREY,
                linewidth=0.7,
            )
        )
        for number, column in enumerate(columns):
            where = starts[number] + _GAP / 3
            weight = "bold" if number == 3 else "normal"
            axes.text(where, _ROW * i, column[i], va="center", fontsize=SMALL, color=INK, fontweight=weight)


def _lines(
    axes: Axes, graph: nx.DiGraph, lanes: Mapping[Any, int], left: float, shared: Mapping[str, SharedSet]
) -> None:
    """Draw who takes whose channels: a short stroke to the next row, and a line beside the rows to those further on."""
    row = {node: i for i, node in enumerate(graph.nodes)}
    for node, data in graph.nodes(data=True):
        belongs, here = set_of(data, shared), _ROW * row[node]
        colour = belongs.line if belongs else GREY
        for other, edge in graph.adj[node].items():
            style: Any = _DASHED if edge["kind"] == "coupled" else "-"
            there = _ROW * row[other]
            if row[other] == row[node] + 1:
                x = left + 0.12
                axes.plot([x, x], [here + _BOX / 2, there - _BOX / 2], color=colour, linewidth=1.6)
                continue
            x = left - _LANE * (1 + lanes[node])
            axes.plot([left, x, x], [here, here, there], color=colour, linewidth=1.1, solid_joinstyle="round")
            axes.annotate(
                "",
                (left, there),
                (x, there),
                arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.1, "linestyle": style, "shrinkA": 0,
                            "shrinkB": 0, "mutation_scale": 7},
            )  # fmt: skip


def _legend(shared: Mapping[str, SharedSet]) -> Iterator[tuple[Any, str, str | None]]:
    """Yield the entries of the legend: what is drawn (a line's style, or a box's edge), text, and a box's fill."""
    yield "-", "to a layer that mixes the channels: its own are others", None
    yield _DASHED, "to a layer or sum that must have the same channels", None
    yield _KEPT, "its channels always stay", "white"
    for one in shared.values():
        yield GREY, one.told, one.fill


def _entry(axes: Axes, entry: tuple[Any, str, str | None], left: float, y: float) -> None:
    look, text, fill = entry
    if fill is None:
        axes.plot([left, left + 0.28], [y, y], color=INK, linewidth=1.1, linestyle=look)
    else:
        axes.plot([left + 0.14], [y], marker="s", markersize=9, color=fill, markeredgecolor=look)
    axes.text(left + 0.4, y, text, va="center", fontsize=SMALL, color=INK)
