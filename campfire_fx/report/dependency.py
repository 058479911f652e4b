"""The dependency graph for people and other programs: a tree in the terminal, text, DOT, Mermaid and JSON."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
from rich.text import Text
from rich.tree import Tree

from campfire_fx.base.disk.whole import write_text
from campfire_fx.base.errors import CampfireError
from campfire_fx.report import pictures
from campfire_fx.report.numbers import plural
from campfire_fx.report.sets import SharedSet, set_of, shared_sets
from campfire_fx.report.style import STYLES, Report

if TYPE_CHECKING:
    from campfire_fx.report.pictures import Figure

_ROOT = "\0root"
_MOST_SOURCES = 3
_NOUNS = {
    "conv": "convolution", "linear": "linear layer", "add": "sum", "concat": "concatenation",
    "barrier": "opaque operation",
}  # fmt: skip
_JOINTS = ("add", "concat", "barrier")


class DependencyGraph(nx.DiGraph):  # type: ignore[misc]  # networkx has no types
    """What `dependency_graph` returns: a networkx graph with a repr of one line, which a notebook draws."""

    def __repr__(self) -> str:
        return f"<DependencyGraph: {self.number_of_nodes()} nodes, {self.number_of_edges()} edges>"

    def _repr_html_(self) -> str | None:
        return DependencyReport(self)._repr_html_()


@dataclass(frozen=True, slots=True, eq=False)
class DependencyReport(Report):
    """Shows a dependency graph as a tree: what a layer's channels go to stands below it.

    Branches are indented; where they meet again the tree goes on at the level on which they parted, so depth does
    not grow with the network. Each layer is shown once, with all that it reads.
    """

    graph: nx.DiGraph

    def picture(self) -> Figure | None:
        """Draw the graph, where there is matplotlib to do it and it is not too large for a picture."""
        if not pictures.installed() or self.graph.number_of_nodes() > pictures.MOST_ROWS:
            return None
        return pictures.channel_dependencies(self.graph)

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
    nodes = [data for _, data in graph.nodes(data=True)]
    counts = Counter(data["kind"] for data in nodes)
    found = ", ".join(plural(counts[kind], noun) for kind, noun in _NOUNS.items() if counts[kind])
    kept = sum(data["pinned"] is not None and data["kind"] in _NOUNS for data in nodes)
    return f"Channels: {found}" + (f"; those of {kept} always kept" if kept else "")


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
        text.append(f"  always kept: {data['pinned']}", style=STYLES["report.bad"])
    return text


def _via(operations: tuple[str, ...]) -> str:
    return f" through {', '.join(operations)}" if operations else ""


def to_text(graph: nx.DiGraph) -> str:
    """Return the tree as plain text."""
    return str(DependencyReport(graph))


def to_dot(graph: nx.DiGraph) -> str:
    """Return the graph in Graphviz's DOT language.

    A colour for each coupled set that several layers share, with a legend; coupled edges dashed, pinned nodes red.
    """
    shared = shared_sets(graph)
    lines = ["digraph channels {", "  fontname=Helvetica;", "  edge [fontname=Helvetica, fontsize=10];"]
    lines.append('  node [shape=box, style="rounded,filled", fillcolor=white, fontname=Helvetica, height=0.3];')
    for node, data in graph.nodes(data=True):
        belongs = set_of(data, shared)
        look = f', fillcolor="{belongs.fill}"' if belongs else ""
        look += ", color=red" if data["pinned"] else ""
        look += ", shape=ellipse" if data["kind"] not in _NOUNS or data["kind"] in _JOINTS else ""
        lines.append(f"  {json.dumps(str(node))} [label={json.dumps(_label(node, data, belongs))}{look}];")
    for source, target, data in graph.edges(data=True):
        style = ", style=dashed" if data["kind"] == "coupled" else ""
        lines.append(f'  {json.dumps(str(source))} -> {json.dumps(str(target))} [label="{data["channels"]}"{style}];')
    if shared:
        lines.append('  subgraph cluster_legend {\n    label="coupled sets";')
        lines += [
            f'    "set {one.number}" [label={json.dumps(one.told)}, fillcolor="{one.fill}", shape=note, style=filled];'
            for one in shared.values()
        ]
        below = " -> ".join(f'"set {one.number}"' for one in shared.values())
        lines += [f"    {below} [style=invis];"] * (len(shared) > 1) + ["  }"]
    return "\n".join([*lines, "}", ""])


def to_mermaid(graph: nx.DiGraph) -> str:
    """Return the graph as a Mermaid flow chart, coloured as DOT is; coupled edges dotted."""
    names = {node: f"n{i}" for i, node in enumerate(graph.nodes)}
    shared = shared_sets(graph)
    lines = ["flowchart TD"]
    for node, data in graph.nodes(data=True):
        belongs = set_of(data, shared)
        label = _in_mermaid(_label(node, data, belongs).replace("->", "to"))
        start, end = ("([", "])") if data["kind"] in _JOINTS or data["kind"] not in _NOUNS else ("[", "]")
        lines.append(f'  {names[node]}{start}"{label}"{end}{f":::s{belongs.number}" if belongs else ""}')
    for source, target, data in graph.edges(data=True):
        arrow = "-.->" if data["kind"] == "coupled" else "-->"
        lines.append(f"  {names[source]} {arrow}|{data['channels']}| {names[target]}")
    lines += [f"  classDef s{one.number} fill:{one.fill},stroke:{one.line},color:#000" for one in shared.values()]
    if shared:
        told = [f'    l{one.number}["{_in_mermaid(one.told)}"]:::s{one.number}' for one in shared.values()]
        below = " ~~~ ".join(f"l{one.number}" for one in shared.values())
        lines += ["  subgraph legend [coupled sets]", *told, *[f"    {below}"] * (len(shared) > 1), "  end"]
    return "\n".join([*lines, ""])


def _in_mermaid(text: str) -> str:
    """Return text for a label: quotes, marks of HTML and of Markdown, and `#` by their numbers, as Mermaid wants."""
    return re.sub(r"[^\w .,:()/+=-]", lambda one: "<br/>" if one[0] == "\n" else f"#{ord(one[0])};", text)


def _label(node: Any, data: dict[str, Any], belongs: SharedSet | None) -> str:
    """Return what stands in a node: its name, what it does with how many channels, and the number of its set."""
    channels = f"{data['channels_in']} -> {data['channels_out']}" if data["channels_in"] else f"{data['channels_out']}"
    if data["kind"] in ("input", "output"):
        return f"{node}\n{data['channels_out']}" if data["channels_out"] else str(node)
    return f"{node}\n{data['operation']} {channels}{f', set {belongs.number}' if belongs else ''}"


def to_json(graph: nx.DiGraph) -> str:
    """Return the graph as networkx's node-link JSON."""
    return json.dumps(nx.node_link_data(graph, edges="edges"), indent=2) + "\n"


def from_json(text: str) -> DependencyGraph:
    """Read a graph that `to_json` wrote."""
    graph = DependencyGraph(nx.node_link_graph(json.loads(text), edges="edges"))
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
_PICTURES = (".png", ".svg")


def write(graph: nx.DiGraph, path: str | Path) -> None:
    """Write a graph in the format that the path's suffix names: .png, .svg, .txt, .dot, .gv, .mmd or .json.

    Raises:
        CampfireError: the suffix is not known, the file cannot be written, or matplotlib, which draws, is missing.
    """
    path = Path(path)
    check_path(path)
    if path.suffix in _PICTURES:
        pictures.save(pictures.channel_dependencies(graph), path)
    else:
        write_text(path, _SUFFIXES[path.suffix](graph), CampfireError)


def check_path(path: Path) -> None:
    """Raise a CampfireError if `write` cannot write there, before anything is done for it."""
    known = (*_PICTURES, *_SUFFIXES)
    if path.suffix not in known:
        raise CampfireError(f"{path}: the suffix names no graph format. Use one of {', '.join(known)}.")
    if not path.parent.is_dir():
        raise CampfireError(f"{path}: there is no folder {path.parent}. Make it first.")
    if path.suffix in _PICTURES:
        pictures.check_installed()
