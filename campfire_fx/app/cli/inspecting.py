"""`campfire-fx inspect`: what was captured, how channels flow, and what each layer costs."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import networkx as nx
import typer
from rich.console import Group
from torch import nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.app.cli.costing import flop_report, method_shares
from campfire_fx.app.cli.options import AsJson, Example, ModelArguments
from campfire_fx.app.cli.terminal import example_inputs, model_options, show, show_json
from campfire_fx.app.train.models import build_model
from campfire_fx.capture import trace
from campfire_fx.cost.latency_table import latency_table
from campfire_fx.cost.measure import latency as measured
from campfire_fx.cost.measure import one_sample
from campfire_fx.cost.modules import module_costs
from campfire_fx.report import capture_report, coupling_report, dependency_report
from campfire_fx.report.dependency import FORMATS, check_path, write
from campfire_fx.report.latency import LatencyReport, latency_report
from campfire_fx.report.modules import ModulesReport
from campfire_fx.report.numbers import input_shapes
from campfire_fx.report.progress import progress
from campfire_fx.shrink.dependency import dependency_graph
from campfire_fx.training.couple import coupled_channels

Format = Enum("Format", {name: name for name in FORMATS}, type=str)  # type: ignore[misc]


def inspect_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A torchvision name, or package.module:factory.")],
    example: Example = None,
    option: ModelArguments = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Print the dependency graph alone, in this form.", show_default="all reports"),
    ] = None,
    graph_file: Annotated[
        Path | None,
        typer.Option("--graph", help="Also draw or write the dependency graph: .png, .svg, .dot, .mmd, .json, .txt."),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(min=1, help="Levels of modules to show, deeper ones summed up; 1: the model's own children."),
    ] = None,
    groups: Annotated[
        bool, typer.Option("--groups", help="Show which channels are removed together, and name them in the graph.")
    ] = False,
    latency: Annotated[
        bool, typer.Option("--latency", help="Measure how long each layer takes at smaller widths, on this machine.")
    ] = False,
    method: Annotated[
        str | None,
        typer.Option(
            help="Count the operations of a sparse method: swat-u, swat-erk, swat-structured, or a regime.",
            show_default="no",
        ),
    ] = None,
    sparsity: Annotated[
        float | None,
        typer.Option(help="With --method: the fraction of weights to remove, in [0, 1).", show_default="0.7"),
    ] = None,
    dense_overhead: Annotated[
        float | None,
        typer.Option(help="With --method: other dense training work, as a share of the dense MACs.", show_default="0"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a model's layers, what each computes and costs, and which channels depend on each other.

    The dependency graph links each layer to the layers, sums and concatenations that read its channels. As a picture,
    layers whose channels can only be removed together have one colour.

    **Examples**

        campfire-fx inspect resnet18
        campfire-fx inspect resnet50 --depth 1
        campfire-fx inspect mobilenet_v2 --graph channels.png
        campfire-fx inspect resnet50 --groups
        campfire-fx inspect resnet50 --latency --example 1x3x224x224
        campfire-fx inspect mynets:small --option width=32 --example 1x3x64x64
        campfire-fx inspect resnet50 --method swat-u --sparsity 0.8
    """
    shares = method_shares(method, sparsity, dense_overhead)
    if graph_file is not None:
        check_path(graph_file)
    network = build_model(model, model_options(option)).eval()
    inputs = example_inputs(example)
    with progress(f"Inspecting {model}"):
        captured = trace(network, inputs)
        args, kwargs = one_sample(network, captured.args, captured.kwargs)
        coupling = coupled_channels(network, kwargs or args) if groups or graph_file or form else None
        graph = dependency_graph(captured, coupling=coupling)
        layers = _layers(network, graph, (args, kwargs), depth, guessed=inputs is None)
        more: dict[str, Any] = {"groups": coupling_report(coupling)} if groups and coupling else {}
        if method:
            more["operations"] = flop_report(network, (args, kwargs), method, *shares)
        if latency:
            more["latency"] = _latency(network, args, kwargs)
    if graph_file is not None:
        write(graph, graph_file)
    if form is not None:
        print(FORMATS[form.value](graph).rstrip("\n"))  # noqa: T201  goes to other programs
    elif as_json:
        asked = {name: report.facts() for name, report in more.items()} | {"guessed": layers.guessed}
        show_json({"model": model, "inputs": layers.inputs, **_facts(captured, graph, layers), **asked})
    elif more:
        show(Group(*more.values(), layers.note()))
    else:
        show(Group(capture_report(captured), dependency_report(graph), layers))
    if graph_file is not None and form is None and not as_json:
        show(f"Wrote {graph_file}.")


def _layers(
    network: nn.Module,
    graph: nx.DiGraph,
    inputs: tuple[tuple[Any, ...], dict[str, Any]],
    depth: int | None,
    *,
    guessed: bool,
) -> ModulesReport:
    """Return the report of what the modules of a model cost, with the reasons of those whose channels have to stay."""
    kept = {str(node): data["pinned"] for node, data in graph.nodes(data=True) if data["pinned"]}
    costs = module_costs(network, *inputs, depth=depth)
    return ModulesReport(costs, input_shapes(*inputs), kept, complete=depth is not None, guessed=guessed)


def _latency(network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LatencyReport:
    return latency_report(latency_table(network, args, kwargs), whole=measured(network, args, kwargs))


def _facts(captured: Captured, graph: nx.DiGraph, layers: ModulesReport) -> dict[str, Any]:
    return {
        "parameters": layers.costs.parameters,
        "macs": layers.costs.cost.total,
        "not_counted": layers.costs.cost.not_counted,
        "capture": json.loads(capture_report(captured).to_json()),
        "layers": layers.facts(),
        "graph": nx.node_link_data(graph, edges="edges"),
    }
