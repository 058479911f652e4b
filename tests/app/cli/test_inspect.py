"""`inspect`: three reports, the graph in other forms, facts as JSON; costs of one image."""

from __future__ import annotations

import json
from pathlib import Path

import networkx as nx
import pytest

from campfire_fx.report.dependency import from_json

MODEL = "campfire_fx.app.train.networks:resnet8"


def test_reports_are_plain_text_in_a_pipe(run) -> None:
    result = run("inspect", MODEL)
    assert result.exit_code == 0, result.stderr
    for text in ("the whole model", "9 convolutions, 1 linear layer, 3 sums", "layer3.0.conv2", "36,864", "78,042"):
        assert text in result.stdout
    lines = result.stdout.splitlines()
    assert not any("\x1b" in line or line != line.rstrip() for line in lines)
    assert max(len(line) for line in lines if "Measured" not in line) <= 100


def test_costs_are_those_of_one_image(run) -> None:
    one, four = (json.loads(run("inspect", MODEL, "--example", f"{n}x3x32x32", "--json").stdout) for n in (1, 4))
    assert one["macs"] == four["macs"] == sum(layer["macs"] for layer in one["layers"])
    assert one["inputs"] == four["inputs"] == [[1, 3, 32, 32]]


def test_json_holds_every_layer_and_the_graph(run) -> None:
    facts = json.loads(run("inspect", MODEL, "--option", "classes=7", "--json").stdout)
    layers = {layer["name"]: layer for layer in facts["layers"]}
    assert len([layer for layer in layers.values() if layer["macs"]]) == 10
    assert sum(layer["parameters"] for layer in layers.values()) == facts["parameters"]
    assert layers["fc"]["weight"] == [7, 64] and layers["fc"]["output"] == [[1, 7]]
    assert layers["layer2.0.conv1"]["output"] == [[1, 32, 112, 112]] and layers["bn1"]["weight"] == [16]
    assert layers["fc"]["pinned"] and not layers["conv1"]["pinned"]
    mixing = {layer["name"] for layer in facts["layers"] if layer["macs"]}
    assert {node["id"] for node in facts["graph"]["nodes"]} > mixing


@pytest.mark.parametrize(("form", "start"), [
    ("dot", "digraph channels {"), ("mermaid", "flowchart TD"), ("json", "{"), ("tree", "Channels: 9 convolutions"),
])  # fmt: skip
def test_the_graph_alone(run, form: str, start: str) -> None:
    result = run("inspect", MODEL, "--format", form)
    assert result.stdout.startswith(start)
    assert "layer2.0.downsample.0" in result.stdout
    assert result.stdout.endswith("\n") and not result.stdout.endswith("\n\n")


def test_the_graph_as_a_file(run) -> None:
    result = run("inspect", MODEL, "--graph", "graph.json")
    assert result.exit_code == 0, result.stderr
    assert "Wrote graph.json" in result.stdout
    graph = from_json(Path("graph.json").read_text())
    assert nx.has_path(graph, "input", "output")


def test_an_unknown_form_of_file_is_refused(run) -> None:
    result = run("inspect", MODEL, "--graph", "graph.jpg")
    assert result.exit_code == 2
    assert "the suffix names no graph format" in result.stderr


def test_operations_of_a_method(run) -> None:
    result = run("inspect", MODEL, "--method", "swat", "--sparsity", "0.8")
    assert result.exit_code == 0, result.stderr
    assert "Operations, swat-u at 80 %" in result.stdout and "layer3.0.conv2" in result.stdout
    plain, heavy = (
        json.loads(run("inspect", MODEL, "--method", "swat-u", "--sparsity", "0.8", "--json", *more).stdout)
        for more in ((), ("--dense-overhead", "0.25"))
    )
    stem = next(layer for layer in plain["layers"] if layer["name"] == "conv1")
    expected = 0.8 * (1 - stem["macs"] / plain["macs"])
    assert plain["operations"]["inference_reduction"] == pytest.approx(expected)
    assert plain["operations"]["training_reduction"] == pytest.approx(expected)
    assert heavy["operations"]["training_reduction"] == pytest.approx(expected / 1.25)
    mixing = [layer["name"] for layer in plain["layers"] if layer["macs"]]
    assert [layer["name"] for layer in plain["operations"]["layers"]] == mixing


@pytest.mark.parametrize("method", ["swat-erk", "swat-structured", "ck", "combined", "unstructured"])
def test_every_method_meets_its_sparsity(run, method: str) -> None:
    facts = json.loads(run("inspect", MODEL, "--method", method, "--sparsity", "0.5", "--json").stdout)
    layers = {layer["name"]: layer for layer in facts["operations"]["layers"]}
    sizes = {layer["name"]: layer["parameters"] for layer in facts["layers"]}
    sparse = {name: layer for name, layer in layers.items() if method == "swat-erk" or name != "conv1"}
    kept = sum(layer["weight_density"] * sizes[name] for name, layer in sparse.items())
    assert kept / sum(sizes[name] for name in sparse) == pytest.approx(0.5, abs=0.01)
    assert 0.2 < facts["operations"]["training_reduction"] < 0.7


@pytest.mark.parametrize(("method", "told"), [("swat-m", "outcome of training"), ("swta", "unknown regime")])
def test_a_method_that_cannot_be(run, method: str, told: str) -> None:
    result = run("inspect", MODEL, "--method", method)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())


def test_groups(run) -> None:
    result = run("inspect", MODEL, "--groups")
    assert result.exit_code == 0, result.stderr
    assert "Coupled channels" in result.stdout and "layer3.0.conv1" in result.stdout
    assert "Stays: 10 channels at output: the model's output." in result.stdout
    facts = json.loads(run("inspect", MODEL, "--groups", "--json").stdout)
    sets = {one["name"]: one for one in facts["groups"]["sets"]}
    assert sets["conv1"]["writers"] == ["conv1", "layer1.0.conv2"]
    layers = {layer["name"]: layer for layer in facts["layers"]}
    inner = sets["layer1.0.conv1"]
    assert inner["all_macs"] == layers["layer1.0.conv1"]["macs"] + layers["layer1.0.conv2"]["macs"]
    assert inner["macs_share"] == pytest.approx(inner["all_macs"] / facts["macs"])
    nodes = {node["id"]: node["sets"] for node in facts["graph"]["nodes"]}
    assert nodes["layer1.0.conv2"] == nodes["layer1.0 (add)"] == ["conv1"] and nodes["fc"] == []


def test_latency_is_measured_once_and_kept(run, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPFIRE_FX_CACHE", str(tmp_path / "cache"))
    shown = run("inspect", "squeezenet1_1", "--example", "1x3x64x64", "--latency")
    assert shown.exit_code == 0, shown.stderr
    assert "features.0" in shown.stdout and "everything else" in shown.stdout
    told = json.loads(run("inspect", "squeezenet1_1", "--example", "1x3x64x64", "--latency", "--json").stdout)
    times = told["latency"]["table"]["times"]
    assert times[0]["name"] == "features.0" and times[0]["ms"][-1][-1] > 0
    assert any((tmp_path / "cache").iterdir())


def test_layers_summed_up_to_a_depth(run) -> None:
    whole, top = (json.loads(run("inspect", MODEL, "--json", *more).stdout) for more in ((), ("--depth", "1")))
    names = [layer["name"] for layer in top["layers"]]
    assert names == ["conv1", "bn1", "layer1", "layer2", "layer3", "fc"]
    assert sum(layer["macs"] for layer in top["layers"]) == whole["macs"]
    assert sum(layer["parameters"] for layer in top["layers"]) == whole["parameters"]
    assert {layer["name"]: layer["operation"] for layer in top["layers"]}["layer2"] == "Sequential"
    assert run("inspect", MODEL, "--depth", "0").exit_code == 2


@pytest.mark.parametrize("width", [80, 160])
def test_nothing_is_cut(run, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    told = run("inspect", "densenet121", "--example", "1x3x64x64").stdout
    assert max(map(len, told.split("Layers\n")[1].splitlines())) <= width
    assert "denselayer24.conv2" in told and "1x32x4x4" in told and "everything else" not in told
