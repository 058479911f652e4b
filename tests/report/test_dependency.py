"""The dependency graph as tree, DOT, Mermaid and JSON."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import networkx as nx
import pytest
import torch
from torch import nn

from campfire_fx.base.errors import CampfireError
from campfire_fx.report import dependency_report
from campfire_fx.report.dependency import from_json, to_dot, to_json, to_mermaid, write
from campfire_fx.report.style import plain
from campfire_fx.shrink.dependency import dependency_graph
from campfire_fx.training.couple import coupled_channels
from tests.report.small import Small

TREE = """\
Channels: 3 convolutions, 1 linear layer, 1 sum; those of 1 always kept
├── input  3
├── stem  Conv2d 3 -> 8  reads input
│   ├── inner  Conv2d 8 -> 6  reads stem through BatchNorm2d, relu
│   └── outer  Conv2d 6 -> 8  reads inner through relu
├── add  add 8 -> 8  coupled stem through BatchNorm2d, relu; coupled outer
├── head  Linear 8 -> 5  reads add through mean  always kept: its channels reach the output, or others that must stay
└── output  coupled head"""


@pytest.fixture(scope="module")
def graph() -> nx.DiGraph:
    return dependency_graph(Small(), torch.randn(1, 3, 16, 16))


def test_tree(graph: nx.DiGraph) -> None:
    assert plain(dependency_report(graph)) == TREE


def test_json_round_trip(graph: nx.DiGraph) -> None:
    assert nx.utils.graphs_equal(from_json(to_json(graph)), graph)


def test_dot_and_mermaid_hold_every_node_and_edge(graph: nx.DiGraph) -> None:
    dot, mermaid = to_dot(graph), to_mermaid(graph)
    assert dot.count(' -> "') == mermaid.count("->|") == graph.number_of_edges()
    assert dot.count("style=dashed") == mermaid.count("-.->") == 3
    assert all(f'"{node}" [label=' in dot for node in graph.nodes)


def test_coupled_sets_have_colours_and_a_legend() -> None:
    model, example = Small(), torch.randn(1, 3, 16, 16)
    coupling = coupled_channels(model, example)
    graph = dependency_graph(model, example, coupling=coupling)
    assert [one.name for one in coupling.sets] == ["stem", "inner"]
    assert {node: data["sets"] for node, data in graph.nodes(data=True)} == {
        "input": (), "stem": ("stem",), "inner": ("inner",), "outer": ("stem",), "add": ("stem",), "head": (),
        "output": (),
    }  # fmt: skip
    dot, mermaid = to_dot(graph), to_mermaid(graph)
    fills = [line.split('fillcolor="')[1][:7] for line in dot.splitlines() if 'fillcolor="' in line]
    assert len(fills) == 3 + 1 and len(set(fills)) == 1, "inner is coupled with no other layer"
    assert '"set 1" [label="1  stem: 2 layers"' in dot and 'label="stem\\nConv2d 3 -> 8, set 1"' in dot
    assert mermaid.count(":::s1") == 3 + 1 and mermaid.count("classDef") == 1
    assert nx.utils.graphs_equal(from_json(to_json(graph)), graph)


def test_a_file_from_before_sets_is_read(graph: nx.DiGraph) -> None:
    facts = json.loads(to_json(graph))
    for node in facts["nodes"]:
        del node["sets"]
    assert nx.utils.graphs_equal(from_json(json.dumps(facts)), graph)


def test_depth_does_not_grow_with_the_network() -> None:
    chain = nx.DiGraph()
    for i in range(2000):
        chain.add_node(i, kind="conv", operation="Conv2d", channels_in=4, channels_out=4, pinned=None)
        if i:
            chain.add_edge(i - 1, i, kind="reads", channels=4, via=())
    lines = plain(dependency_report(chain)).splitlines()
    assert len(lines) == 2001
    assert max(len(line) for line in lines[1:]) < 60


def test_shared_layers_make_cycles() -> None:
    graph = nx.DiGraph()
    for name in "ab":
        graph.add_node(name, kind="conv", operation="Conv2d", channels_in=4, channels_out=4, pinned=None)
    graph.add_edges_from([("a", "b"), ("b", "a")], kind="reads", channels=4, via=())
    text = str(dependency_report(graph))
    assert "a  Conv2d 4 -> 4  reads b" in text and "b  Conv2d 4 -> 4  reads a" in text


def test_write(graph: nx.DiGraph, tmp_path: Path) -> None:
    write(graph, tmp_path / "g.dot")
    assert (tmp_path / "g.dot").read_text() == to_dot(graph)
    write(graph, tmp_path / "g.png")
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(CampfireError, match=r"g\.jpg: the suffix names no graph format\. Use one of \.png"):
        write(graph, tmp_path / "g.jpg")
    with pytest.raises(CampfireError, match=r"there is no folder .*none\. Make it first"):
        write(graph, tmp_path / "none" / "g.dot")


def test_odd_names_in_mermaid() -> None:
    """Rendered once with mermaid 11, where a quote, a backtick at the start or `#;` is a syntax error."""
    odd = nn.Sequential(OrderedDict({'a"b<i>&#;[x]|end': nn.Conv2d(3, 4, 1), "`md` *b*": nn.Conv2d(4, 2, 1)})).eval()
    lines = to_mermaid(dependency_graph(odd, torch.randn(1, 3, 8, 8))).splitlines()
    labels = [line.split('"')[1] for line in lines if '"' in line]
    assert all(line.count('"') == 2 for line in lines if '"' in line) and len(labels) == 4
    assert labels[1] == "a#34;b#60;i#62;#38;#35;#59;#91;x#93;#124;end<br/>Conv2d 3 to 4"
    assert labels[2] == "#96;md#96; #42;b#42;<br/>Conv2d 4 to 2"
