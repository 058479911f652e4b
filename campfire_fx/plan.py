"""The plan of a shrink as plain data: what was kept where, what was folded, rewritten or pinned, and why."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from campfire_fx.rules.structure import Pin

__all__ = ["LayerChange", "Pin", "Repair", "ShrinkPlan", "Verification", "VerifiedRun"]


@dataclass(frozen=True, slots=True)
class LayerChange:
    """One layer that mixes channels, before and after.

    Attributes:
        name: path of the layer.
        operation: "Conv2d", "Linear", "conv2d" (functional), ...
        weight_before, weight_after: shapes of its weight.
        inputs, outputs: channel counts (before, after).
        dead_inputs: input channels that no non-zero kernel reads, or that are constant.
        dead_outputs: output channels whose kernels are all zero.
        folded: constant input channels moved into the bias.
        merged: constant input channels merged into one.
        reason: why it did not get smaller, or "".
    """

    name: str
    operation: str
    weight_before: tuple[int, ...]
    weight_after: tuple[int, ...]
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    dead_inputs: int
    dead_outputs: int
    folded: int
    merged: int
    reason: str


@dataclass(frozen=True, slots=True)
class Repair:
    """One operation that was rewritten because channels went: at which node, how, why."""

    node: str
    action: str
    reason: str


@dataclass(frozen=True, slots=True)
class ShrinkPlan:
    """Everything that was decided in one shrink.

    Attributes:
        layers: the layers that mix channels, in the order of the graph.
        repairs: operations rewritten.
        pins: channels that had to stay, with the reason.
        keep: parameter -> per axis the kept indices, None for all. Axis 1 of a grouped weight counts within a group:
            None also stands for groups that kept different ones.
    """

    layers: tuple[LayerChange, ...]
    repairs: tuple[Repair, ...]
    pins: tuple[Pin, ...]
    keep: dict[str, tuple[tuple[int, ...] | None, ...]]

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> ShrinkPlan:
        """Read a plan that `to_json` wrote."""
        data = json.loads(text)
        pairs = ("weight_before", "weight_after", "inputs", "outputs")
        layers = tuple(_layer({k: tuple(v) if k in pairs else v for k, v in layer.items()}) for layer in data["layers"])
        keep = {
            name: tuple(None if axis is None else tuple(axis) for axis in axes) for name, axes in data["keep"].items()
        }
        repairs = tuple(Repair(**repair) for repair in data["repairs"])
        return ShrinkPlan(layers, repairs, tuple(Pin(**pin) for pin in data["pins"]), keep)


def _layer(facts: dict[str, Any]) -> LayerChange:
    return LayerChange(**facts)


@dataclass(frozen=True, slots=True)
class VerifiedRun:
    """One comparison: shape of the first input, precision used, largest relative difference."""

    shape: tuple[int, ...]
    dtype: str
    difference: float


@dataclass(frozen=True, slots=True)
class Verification:
    """The proof of a shrink: max |a - b| / max |a| over all outputs and runs."""

    difference: float
    runs: tuple[VerifiedRun, ...]
