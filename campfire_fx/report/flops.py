"""The report of what a sparse method computes: a row per layer, inference and training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.text import Text

from campfire_fx.cost import FlopCount, LayerFlops
from campfire_fx.report.numbers import count, percent, shape
from campfire_fx.report.style import STYLES, Report
from campfire_fx.report.table import Column, FittedTable

_COLUMNS = (
    Column("layer", right=False),
    Column("weight", 6),
    Column("weights\nzero", 2),
    Column("activations\nzero", 3),
    Column("MACs", 5),
    Column("sparse\nMACs", 4),
    Column("training\nMACs", 5),
    Column("sparse training\nMACs", 4),
    Column("inference\nsaved"),
    Column("training\nsaved"),
)

_PASSES = (
    "MACs are of one sample. Training: the forward pass and the input gradient multiply with the weights that are "
    "kept, the weight gradient with the activations that are kept."
)


@dataclass(frozen=True, slots=True)
class FlopReport(Report):
    """Shows a `FlopCount` of a method by its name."""

    method: str
    flops: FlopCount

    def __rich__(self) -> Any:
        rows = [_row(layer) for layer in self.flops.layers]
        table = FittedTable(f"Operations, {self.method}", _COLUMNS, rows, _total(self.flops))
        return Group(table, Text(_note(self.flops), style=STYLES["report.note"]))

    def facts(self) -> dict[str, Any]:
        """Return all numbers, for JSON; counts are of multiply-accumulates (MACs)."""
        flops = self.flops
        return {
            "method": self.method,
            "dense_overhead": flops.dense_overhead,
            "other_macs": flops.other_macs,
            "inference": {"dense": flops.dense_inference, "sparse": flops.inference},
            "training": {"dense": flops.dense_training, "sparse": flops.training},
            "inference_reduction": flops.inference_reduction,
            "training_reduction": flops.training_reduction,
            "layers": [_layer_facts(layer) for layer in flops.layers],
        }


def _layer_facts(layer: LayerFlops) -> dict[str, Any]:
    return {
        "name": layer.layer.name,
        "operation": layer.layer.operation,
        "weight": layer.layer.weight,
        "weight_density": layer.density.weights,
        "activation_density": layer.density.activations,
        "weight_gradient_density": layer.density.weight_gradient,
        "macs": layer.dense,
        "forward": layer.forward,
        "input_gradient": layer.input_gradient,
        "weight_gradient": layer.weight_gradient,
    }


def _row(layer: LayerFlops) -> tuple[str, ...]:
    return (
        layer.layer.name,
        shape(layer.layer.weight),
        percent(1 - layer.density.weights),
        percent(1 - layer.density.activations),
        count(layer.dense),
        count(layer.forward),
        count(3 * layer.dense),
        count(layer.training),
        percent(1 - layer.forward / layer.dense if layer.dense else 0.0),
        percent(1 - layer.training / (3 * layer.dense) if layer.dense else 0.0),
    )


def _total(flops: FlopCount) -> tuple[str, ...]:
    weights = sum(layer.layer.weights for layer in flops.layers)
    inputs = sum(layer.layer.inputs for layer in flops.layers)
    dead = sum((1 - layer.density.weights) * layer.layer.weights for layer in flops.layers)
    unread = sum((1 - layer.density.activations) * layer.layer.inputs for layer in flops.layers)
    return (
        "the whole model",
        "",
        percent(dead / max(1, weights)),
        percent(unread / max(1, inputs)),
        count(flops.dense_inference),
        count(flops.inference),
        count(flops.dense_training),
        count(flops.training),
        percent(flops.inference_reduction),
        percent(flops.training_reduction),
    )


def _note(flops: FlopCount) -> str:
    parts = [_PASSES]
    if flops.other_macs:
        parts.append(f"{count(flops.other_macs)} MACs outside these layers are counted as dense.")
    if flops.dense_overhead:
        overhead = percent(flops.dense_overhead, 2)
        parts.append(f"Other dense work of training is taken as {overhead} of the dense training MACs.")
    return " ".join(parts)
