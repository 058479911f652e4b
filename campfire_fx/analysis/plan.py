"""The plan of a shrink as plain data: what was kept where, what was folded, rewritten or pinned, and why."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from campfire_fx.analysis.rules.structure import Pin
from campfire_fx.base.records import Record

__all__ = [
    "ColumnChange",
    "GroupChange",
    "KernelChange",
    "LayerChange",
    "NormChange",
    "Pin",
    "Repair",
    "ShrinkPlan",
    "Verification",
    "VerifiedRun",
]


@dataclass(frozen=True, slots=True)
class LayerChange(Record):
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

    def _told(self) -> Iterator[str]:
        before, after = ("x".join(map(str, shape)) for shape in (self.weight_before, self.weight_after))
        yield from (self.name, self.operation, before if before == after else f"{before} to {after}")
        yield from [self.reason] * bool(self.reason)


@dataclass(frozen=True, slots=True)
class Repair(Record):
    """One operation that was rewritten because channels went: at which node, how, why."""

    node: str
    action: str
    reason: str


@dataclass(frozen=True, slots=True)
class KernelChange(Record):
    """The kernel of a layer some of whose taps (positions in the kernel) no weight uses.

    Attributes:
        name: path of the layer.
        before, after: kernel size per spatial axis; the same where it was left alone.
        dilation: per spatial axis, afterwards.
        padding: (front, back) per spatial axis, afterwards; what is negative is cut off the input.
        padded: a call of its own pads the input, because the layer can only pad both ends alike.
        reason: why it was left alone, or "".
    """

    name: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    dilation: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    padded: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ColumnChange(Record):
    """A convolution of whose columns (input channel, tap) some are zero in all filters.

    Attributes:
        name: path of the layer.
        before, after: columns that are computed, per group; the same where it was left alone.
        kept: the columns gathered, counted as the cropped weight (K, C/groups, *kernel) has them, last axis first.
        dense_ms, gathered_ms: least time of both ways on the example's shapes, milliseconds.
        reason: why it was left alone, or "".
    """

    name: str
    before: int
    after: int
    kept: tuple[int, ...] = ()
    dense_ms: float = 0.0
    gathered_ms: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GroupChange(Record):
    """A convolution whose filters fall into sets that read the same inputs.

    Attributes:
        name: path of the layer.
        before, after: inputs that each filter is multiplied with; the same where it was left alone.
        filters: per group of the new convolution, the filters that lie there, counted as they were left before.
        inputs: per group, the inputs that are gathered for it.
        dense_ms, grouped_ms: least time of both ways on the example's shapes, milliseconds.
        reason: why it was left alone, or "".
    """

    name: str
    before: int
    after: int
    filters: tuple[tuple[int, ...], ...] = ()
    inputs: tuple[tuple[int, ...], ...] = ()
    dense_ms: float = 0.0
    grouped_ms: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NormChange(Record):
    """A BatchNorm that was to be folded into the layer before it.

    Attributes:
        name: path of the norm.
        layer: path of the layer that it was folded into, or "".
        reason: why it was left alone, or "".
    """

    name: str
    layer: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ShrinkPlan(Record):
    """Everything that was decided in one shrink.

    Attributes:
        layers: the layers that mix channels, in the order of the graph.
        repairs: operations rewritten.
        pins: channels that had to stay, with the reason.
        keep: parameter -> per axis the kept indices, None for all. Axis 1 of a grouped weight counts within a group:
            None also stands for groups that kept different ones.
        kernels: layers whose kernels have dead taps, cropped or left alone.
        columns: convolutions with dead columns, gathered or left alone; empty where that was not asked for.
        guards: what the example decided and the model therefore checks in every call, as source text with its place.
        variants: where several examples take different ways through the model's code: for which of them each of its
            graphs is, and which guards that has; a call runs the first whose guards hold. Empty where there is one way.
        norms: BatchNorms, folded or left alone; empty where that was not asked for.
        groups: convolutions with sets of filters, grouped or left alone; empty where that was not asked for.
        remarks: what else there is to say of how the model given came about.
        guessed: whether nothing said what the model is called with, and the example was guessed.
    """

    layers: tuple[LayerChange, ...]
    repairs: tuple[Repair, ...]
    pins: tuple[Pin, ...]
    keep: dict[str, tuple[tuple[int, ...] | None, ...]]
    kernels: tuple[KernelChange, ...] = ()
    columns: tuple[ColumnChange, ...] = ()
    guards: tuple[str, ...] = ()
    variants: tuple[tuple[str, tuple[str, ...]], ...] = ()
    norms: tuple[NormChange, ...] = ()
    groups: tuple[GroupChange, ...] = ()
    remarks: tuple[str, ...] = ()
    guessed: bool = False

    @property
    def weights(self) -> tuple[int, int]:
        """How many weights the layers have, before and after."""
        layers = self.layers
        return sum(math.prod(one.weight_before) for one in layers), sum(math.prod(one.weight_after) for one in layers)

    def _told(self) -> Iterator[str]:
        before, after = self.weights
        yield f"{len(self.layers)} layers"
        yield f"{before:,} to {after:,} weights ({100 * after / max(1, before):.1f} %)"

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> ShrinkPlan:
        """Read a plan that `to_json` wrote."""
        data = json.loads(text)
        layers = tuple(LayerChange(**_tuples(layer)) for layer in data["layers"])
        keep = {
            name: tuple(None if axis is None else tuple(axis) for axis in axes) for name, axes in data["keep"].items()
        }
        repairs = tuple(Repair(**repair) for repair in data["repairs"])
        kernels = tuple(KernelChange(**_tuples(kernel)) for kernel in data.get("kernels", ()))
        columns = tuple(ColumnChange(**_tuples(change)) for change in data.get("columns", ()))
        pins, guards = tuple(Pin(**pin) for pin in data["pins"]), tuple(data.get("guards", ()))
        variants = _tuples(data.get("variants", []))
        norms = tuple(NormChange(**change) for change in data.get("norms", ()))
        groups = tuple(GroupChange(**_tuples(change)) for change in data.get("groups", ()))
        more: dict[str, Any] = {"remarks": tuple(data.get("remarks", ())), "guessed": data.get("guessed", False)}
        return ShrinkPlan(layers, repairs, pins, keep, kernels, columns, guards, variants, norms, groups, **more)


def _tuples(value: Any) -> Any:
    """Return JSON data with tuples for lists, however nested."""
    if isinstance(value, dict):
        return {key: _tuples(one) for key, one in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class VerifiedRun(Record):
    """One comparison: shape of the first input, precision used, largest relative difference."""

    shape: tuple[int, ...]
    dtype: str
    difference: float


@dataclass(frozen=True, slots=True)
class Verification(Record):
    """The proof of a shrink: max |a - b| / max |a| over all outputs and runs."""

    difference: float
    runs: tuple[VerifiedRun, ...]
