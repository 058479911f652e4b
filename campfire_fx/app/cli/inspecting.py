"""`campfire-fx inspect`: what was captured, how channels flow, and what each layer costs."""

from __future__ import annotations

import dataclasses
import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import networkx as nx
import typer
from rich.console import Group
from torch import Tensor, nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.app.cli.costing import flop_report, method_shares
from campfire_fx.app.cli.options import AsJson, Example, ModelArguments
from campfire_fx.app.cli.terminal import example_inputs, model_options, show, show_json
from campfire_fx.app.train.models import build_model
from campfire_fx.capture import trace
from campfire_fx.cost.latency_table import latency_table
from campfire_fx.cost.measure import MacCount, macs, one_sample, parameters
from campfire_fx.report import capture_report, coupling_report, dependency_report
from campfire_fx.report.dependency import FORMATS, check_path, write
from campfire_fx.report.latency import latency_report
from campfire_fx.report.numbers import cost_note, count, input_shapes, shape
from campfire_fx.report.progress import progress
from campfire_fx.report.table import Column, FittedTable
from campfire_fx.shrink.dependency import dependency_graph
from campfire_fx.training.couple import coupled_channels

Format = Enum("Format", {name: name for name in FORMATS}, type=str)  # type: ignore[misc]

_COLUMNS = (
    Column("layer", right=False),
    Column("operation", 3, right=False),
    Column("in"),
    Column("out"),
    Column("weight", 4),
    Column("parameters"),
    Column("MACs"),
    Column("kept because", 2, right=False, wraps=True),
)


@dataclasses.dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer that mixes channels; `pinned` says why its channels have to stay, if they do."""

    name: str
    operation: str
    channels_in: int
    channels_out: int
    weight: tuple[int, ...]
    parameters: int
    macs: int
    pinned: str | None


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
        typer.Option("--graph", help="Also write the dependency graph: .dot, .mmd, .json, .txt.", show_default="no"),
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
        typer.Option(
            help="With --method: other dense work in training, as a fraction of the dense MACs.", show_default="0"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a model's layers, sizes, and which channels depend on each other.

    The dependency graph links each layer to the layers, sums and concatenations that read its channels.

    **Examples**

        campfire-fx inspect resnet18
        campfire-fx inspect densenet121 --graph densenet.dot
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
        coupling = coupled_channels(network, kwargs or args) if groups else None
        graph = dependency_graph(captured, coupling=coupling)
        cost = macs(network, args, kwargs)
        more: dict[str, Any] = {"groups": coupling_report(coupling)} if coupling else {}
        if method:
            more["operations"] = flop_report(network, (args, kwargs), method, *shares)
        if latency:
            more["latency"] = latency_report(latency_table(network, args, kwargs))
    if graph_file is not None:
        write(graph, graph_file)
    inputs_shown = input_shapes(args, kwargs)
    if form is not None:
        print(FORMATS[form.value](graph).rstrip("\n"))  # noqa: T201  goes to other programs
    elif as_json:
        asked = {name: report.facts() for name, report in more.items()} | {"guessed": inputs is None}
        show_json({"model": model, "inputs": inputs_shown, **_facts(network, captured, graph, cost), **asked})
    elif more:
        show(Group(*more.values(), cost_note(inputs_shown, cost, guessed=inputs is None)))
    else:
        show(capture_report(captured))
        show(dependency_report(graph))
        show(_layer_table(layer_facts(network, graph, cost), network, cost))
        show(cost_note(inputs_shown, cost, guessed=inputs is None))
    if graph_file is not None and form is None and not as_json:
        show(f"Wrote {graph_file}.")


def _facts(network: nn.Module, captured: Captured, graph: nx.DiGraph, cost: MacCount) -> dict[str, Any]:
    return {
        "parameters": parameters(network),
        "macs": cost.total,
        "not_counted": cost.not_counted,
        "capture": json.loads(capture_report(captured).to_json()),
        "layers": [dataclasses.asdict(layer) for layer in layer_facts(network, graph, cost)],
        "graph": nx.node_link_data(graph, edges="edges"),
    }


def layer_facts(network: nn.Module, graph: nx.DiGraph, cost: MacCount) -> tuple[LayerRow, ...]:
    """Return the facts of every layer of a dependency graph that has a weight, in the order of the graph."""
    modules = dict(network.named_modules(remove_duplicate=False))
    held = {name: getattr(module, "weight", None) for name, module in modules.items()}
    weights = {name: weight for name, weight in held.items() if isinstance(weight, Tensor)}
    return tuple(
        LayerRow(
            name,
            data["operation"],
            data["channels_in"],
            data["channels_out"],
            tuple(weights[name].shape),
            sum(p.numel() for p in modules[name].parameters(recurse=False)),
            cost.per_layer.get(name, 0),
            data["pinned"],
        )
        for name, data in graph.nodes(data=True)
        if name in weights
    )


def _layer_table(layers: tuple[LayerRow, ...], network: nn.Module, cost: MacCount) -> FittedTable:
    rows = [_row(layer) for layer in layers]
    total = ("the whole model", "", "", "", "", count(parameters(network)), count(cost.total), "")
    return FittedTable("Layers", _COLUMNS, rows, total)


def _row(layer: LayerRow) -> tuple[Any, ...]:
    return (
        layer.name,
        layer.operation,
        str(layer.channels_in),
        str(layer.channels_out),
        shape(layer.weight),
        count(layer.parameters),
        count(layer.macs),
        layer.pinned or "",
    )
