"""The dependency graph for people and other programs: a tree in the terminal, text, DOT, Mermaid and JSON."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
from rich.text import Text
from rich.tree import Tree

from campfire_fx.base.disk.whole import write_text
from campfire_fx.base.errors import CampfireError
from campfire_fx.report.numbers import plural
from campfire_fx.report.style import STYLES, Report

_ROOT = "\0root"
_MOST_SOURCES = 3
_GOLDEN = 0.618034  # steps of it round the colour circle keep neighbours apart
_NOUNS = {
    "conv": "convolution", "linear": "linear layer", "add": "sum", "concat": "concatenation", "barrier": "barrier",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class DependencyReport(Report):
    """Shows a dependency graph as a tree: what a layer's channels go to stands below it.

    Branches are indented; where they meet again the tree goes on at the level on which they parted, so depth does
    not grow with the network. Each layer is shown once, with all that it reads.
    """

    graph: nx.DiGraph

    def __rich__(self) -> Any:
        rooted = self.graph.copy()
        order = {node: i for i, node in enumerate(rooted.nodes)}
        reached: set[Any] = set()
        for node in list(rooted.nodes):  # sources, and what is only reached in a cycle of shared layers
            if node not in reached:
                rooted.add_edge(_ROOT, node)
                reached |= {node} | nx.descendants(self.graph, node)
        below: dict[Any, list[Any]] = {}
        for node, above in nx.immediate_dominators(rooted, _ROOT).items():
            if node != _ROOT:
                below.setdefault(above, []).append(node)
        for children in below.values():
            children.sort(key=order.__getitem__)
        tree = Tree(Text(_headline(self.graph), style=STYLES["report.title"]), guide_style=STYLES["report.note"])
        self._fill(tree, below)
        return tree

    def _fill(self, tree: Tree, below: dict[Any, list[Any]]) -> None:
        """Hang every node in its place, without recursion: chains can be a thousand layers long."""
        waiting = [(tree, node) for node in reversed(below.get(_ROOT, []))]
        while waiting:
            level, node = waiting.pop()
            line = level.add(_line(self.graph, node))
            *branches, rest = below.get(node, []) or [None]
            if rest is not None:
                waiting.append((level, rest))
            waiting += [(line, branch) for branch in reversed(branches)]


def dependency_report(graph: nx.DiGraph) -> DependencyReport:
    """Return the report of a graph that `dependency_graph` made."""
    return DependencyReport(graph)


def _headline(graph: nx.DiGraph) -> str:
    kinds = [data["kind"] for _, data in graph.nodes(data=True)]
    pinned = sum(data["pinned"] is not None for _, data in graph.nodes(data=True))
    found = [plural(kinds.count(kind), noun) for kind, noun in _NOUNS.items()]
    return f"Channels: {', '.join(found)}; {pinned} pinned"


def _line(graph: nx.DiGraph, node: Any) -> Text:
    data = graph.nodes[node]
    text = Text(str(node), style=STYLES["report.total"])
    channels = f"{data['channels_in']} -> {data['channels_out']}" if data["channels_in"] else str(data["channels_out"])
    if data["kind"] == "input":
        text.append(f"  {channels}", style="")
    elif data["kind"] != "output":
        text.append(f"  {data['operation']} {channels}", style="")
    sources = [f"{edge['kind']} {source}{_via(edge['via'])}" for source, _, edge in graph.in_edges(node, data=True)]
    if sources:
        more = f"; and {len(sources) - _MOST_SOURCES} more" if len(sources) > _MOST_SOURCES else ""
        text.append(f"  {'; '.join(sources[-_MOST_SOURCES:])}{more}", style=STYLES["report.note"])
    if data["pinned"] and data["kind"] not in ("input", "output"):
        text.append(f"  pinned: {data['pinned']}", style=STYLES["report.bad"])
    return text


def _via(operations: tuple[str, ...]) -> str:
    return f" through {', '.join(operations)}" if operations else ""


def to_text(graph: nx.DiGraph) -> str:
    """Return the tree as plain text."""
    return str(DependencyReport(graph))


def to_dot(graph: nx.DiGraph) -> str:
    """Return the graph in Graphviz's DOT language; coupled edges dashed, pinned nodes red, a colour for each set."""
    lines = ["digraph channels {", "  node [shape=box, fontname=Helvetica];"]
    fills = _fills(graph)
    for node, data in graph.nodes(data=True):
        label = json.dumps(f"{node}\n{data['operation']} {data['channels_in']} -> {data['channels_out']}")
        color = ", color=red" if data["pinned"] else ""
        if sets := data.get("sets"):
            color += f', style=filled, fillcolor="{fills[sets[0]]}"'
        lines.append(f"  {json.dumps(str(node))} [label={label}{color}];")
    for source, target, data in graph.edges(data=True):
        style = ", style=dashed" if data["kind"] == "coupled" else ""
        lines.append(f'  {json.dumps(str(source))} -> {json.dumps(str(target))} [label="{data["channels"]}"{style}];')
    lines += [
        f'  {json.dumps(_legend(name))} [style=filled, fillcolor="{fill}", shape=note];' for name, fill in fills.items()
    ]
    return "\n".join([*lines, "}", ""])


def to_mermaid(graph: nx.DiGraph) -> str:
    """Return the graph as a Mermaid flow chart; coupled edges dotted, a colour for each coupled set."""
    names = {node: f"n{i}" for i, node in enumerate(graph.nodes)}
    fills = _fills(graph)
    classes = {name: f"s{i}" for i, name in enumerate(fills)}
    lines = ["flowchart TD"]
    for node, data in graph.nodes(data=True):
        label = f"{node}<br/>{data['operation']} {data['channels_in']} to {data['channels_out']}".replace('"', "'")
        styled = f":::{classes[sets[0]]}" if (sets := data.get("sets")) else ""
        lines.append(f'  {names[node]}["{label}"]{styled}')
    for source, target, data in graph.edges(data=True):
        arrow = "-.->" if data["kind"] == "coupled" else "-->"
        lines.append(f"  {names[source]} {arrow}|{data['channels']}| {names[target]}")
    for name, fill in fills.items():
        lines.append(f"  classDef {classes[name]} fill:{fill}")
        lines.append(f'  l{classes[name]}["{_legend(name)}"]:::{classes[name]}')
    return "\n".join([*lines, ""])


def _fills(graph: nx.DiGraph) -> dict[str, str]:
    """Return a light colour for each coupled set of a graph, far from those of its neighbours."""
    names = dict.fromkeys(name for _, data in graph.nodes(data=True) for name in data.get("sets", ()))
    hues = [i * _GOLDEN % 1 for i in range(len(names))]
    shades = [colorsys.hls_to_rgb(hue, 0.82, 0.7) for hue in hues]
    return {
        name: "#" + "".join(f"{round(255 * part):02x}" for part in s) for name, s in zip(names, shades, strict=True)
    }


def _legend(name: str) -> str:
    return f"coupled set: {name}"


def to_json(graph: nx.DiGraph) -> str:
    """Return the graph as networkx's node-link JSON."""
    return json.dumps(nx.node_link_data(graph, edges="edges"), indent=2) + "\n"


def from_json(text: str) -> nx.DiGraph:
    """Read a graph that `to_json` wrote."""
    graph = nx.node_link_graph(json.loads(text), edges="edges")
    for _, _, data in graph.edges(data=True):
        data["via"] = tuple(data["via"])
    for _, data in graph.nodes(data=True):
        data["sets"] = tuple(data.get("sets", ()))  # files from before have none
    return graph


FORMATS: dict[str, Callable[[nx.DiGraph], str]] = {
    "tree": to_text,
    "dot": to_dot,
    "mermaid": to_mermaid,
    "json": to_json,
}
_SUFFIXES = {".txt": to_text, ".dot": to_dot, ".gv": to_dot, ".mmd": to_mermaid, ".json": to_json}


def write(graph: nx.DiGraph, path: str | Path) -> None:
    """Write a graph in the format that the path's suffix names: .txt, .dot, .gv, .mmd or .json.

    Raises:
        CampfireError: the suffix is not known, or the file cannot be written.
    """
    path = Path(path)
    check_path(path)
    write_text(path, _SUFFIXES[path.suffix](graph), CampfireError)


def check_path(path: Path) -> None:
    """Raise a CampfireError if `write` cannot write there, before anything is done for it."""
    if path.suffix not in _SUFFIXES:
        raise CampfireError(f"{path}: the suffix names no graph format. Use one of {', '.join(_SUFFIXES)}.")
    if not path.parent.is_dir():
        raise CampfireError(f"{path}: there is no folder {path.parent}. Make it first.")
