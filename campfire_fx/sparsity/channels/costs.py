"""What a network costs whose coupled sets have given widths: multiply-accumulates, parameters, time, channels.

A layer has factor * inputs * filters kernels, and its inputs and filters are sums of widths of sets. So each cost is a
sum of such products, or of times read off a table, plus what no width changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from campfire_fx.base.records import Record
from campfire_fx.sparsity.channels.coupling import Coupling, Floats, Groups, LayerTimes

Widths = NDArray[np.int64]
"""How many groups of each coupled set live, (sets,)."""


class Cost(Protocol):
    """One cost as a function of widths."""

    def total(self, widths: Floats) -> float:
        """Return the cost of the whole network."""

    def savings(self, widths: Floats) -> Floats:
        """Return what one group of each set less would save, (sets,)."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerWidths:
    """Filters and inputs of every layer as sums over sets: `outputs @ widths + outputs_fixed`, likewise inputs.

    Attributes:
        outputs, inputs: (layers, sets).
        outputs_fixed, inputs_fixed: (layers,).
        factor: kernels of a layer are factor * inputs * filters, (layers,). Of a layer whose groups go whole the inputs
            are those of one of its groups, and fixed.
    """

    outputs: Floats
    inputs: Floats
    outputs_fixed: Floats
    inputs_fixed: Floats
    factor: Floats

    @staticmethod
    def of(coupling: Coupling) -> LayerWidths:
        """Count, layer by layer, how many channels one group of each set has there."""
        shape = len(coupling.layers), len(coupling.sets)
        outputs, inputs = np.zeros(shape), np.zeros(shape)
        outputs_fixed, inputs_fixed, factor = np.zeros(shape[0]), np.zeros(shape[0]), np.ones(shape[0])
        sizes = np.array([one.size for one in coupling.sets])
        for place, layer in enumerate(coupling.layers):
            outputs[place], outputs_fixed[place] = _per_group(layer.outputs, coupling, sizes)
            if layer.goes_whole:
                inputs_fixed[place] = layer.inputs.shape[1]
            else:
                inputs[place], inputs_fixed[place] = _per_group(layer.inputs.reshape(-1), coupling, sizes)
                factor[place] = 1 / layer.groups
        return LayerWidths(outputs, inputs, outputs_fixed, inputs_fixed, factor)

    def at(self, widths: Floats) -> tuple[Floats, Floats]:
        """Return (inputs, filters) of every layer."""
        return self.inputs @ widths + self.inputs_fixed, self.outputs @ widths + self.outputs_fixed


def _per_group(groups: Groups, coupling: Coupling, sizes: Groups) -> tuple[Floats, int]:
    inside = groups[groups >= 0]
    counts = np.bincount(coupling.set_of[inside], minlength=sizes.size) if inside.size else np.zeros(sizes.size)
    return counts / np.maximum(1, sizes), int((groups < 0).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """A cost of so much per kernel of a layer, so much per group of a set, and what always stays."""

    layers: LayerWidths
    per_kernel: Floats
    per_group: Floats
    other: float = 0.0
    _weighted: Floats = field(init=False)
    _squares: Floats = field(init=False)

    def __post_init__(self) -> None:
        weighted = self.per_kernel * self.layers.factor
        object.__setattr__(self, "_weighted", weighted)
        object.__setattr__(self, "_squares", weighted @ (self.layers.inputs * self.layers.outputs))

    def total(self, widths: Floats) -> float:
        """See `Cost`."""
        inputs, outputs = self.layers.at(widths)
        return float(self._weighted @ (inputs * outputs) + self.per_group @ widths + self.other)

    def savings(self, widths: Floats) -> Floats:
        """See `Cost`."""
        inputs, outputs = self.layers.at(widths)
        by_inputs = (self._weighted * outputs) @ self.layers.inputs
        by_outputs = (self._weighted * inputs) @ self.layers.outputs
        return np.asarray(by_inputs + by_outputs - self._squares + self.per_group)


@dataclass(frozen=True, slots=True, eq=False)
class Tabled:
    """Time, layer by layer from a table, and what always stays."""

    layers: LayerWidths
    times: LayerTimes
    other: float = 0.0

    @staticmethod
    def of(coupling: Coupling) -> Tabled:
        """Return the time of one call on the example, in milliseconds."""
        assert coupling.times is not None, "no times were measured"
        return Tabled(LayerWidths.of(coupling), coupling.times, coupling.other_ms)

    def total(self, widths: Floats) -> float:
        """See `Cost`."""
        return float(self.times(*self.layers.at(widths)).sum() + self.other)

    def savings(self, widths: Floats) -> Floats:
        """See `Cost`: of each layer the slopes of its time along both widths, over a step in which it changes."""
        inputs, outputs = self.layers.at(widths)
        now, steps = self.times(inputs, outputs), self.times.steps
        fewer_inputs, fewer_outputs = np.maximum(1, inputs - steps), np.maximum(1, outputs - steps)
        by_inputs = (now - self.times(fewer_inputs, outputs)) / np.maximum(1, inputs - fewer_inputs)
        by_outputs = (now - self.times(inputs, fewer_outputs)) / np.maximum(1, outputs - fewer_outputs)
        return np.asarray(np.maximum(0.0, by_inputs @ self.layers.inputs + by_outputs @ self.layers.outputs))


def macs_cost(coupling: Coupling) -> Products:
    """Return the multiply-accumulates of one call on the example."""
    per_kernel = np.array([layer.macs for layer in coupling.layers])
    none = np.zeros(len(coupling.sets))
    return Products(LayerWidths.of(coupling), per_kernel, none, coupling.other_macs)


def parameters_cost(coupling: Coupling) -> Products:
    """Return how many parameters there are."""
    per_kernel = np.array([float(layer.taps * layer.stored) for layer in coupling.layers])
    sizes = np.array([one.size for one in coupling.sets])
    per_group, fixed = np.zeros(len(coupling.sets)), 0
    for vector in (vector for vector in coupling.vectors if vector.parameter):
        counts, stays = _per_group(vector.groups.reshape(-1), coupling, sizes)
        per_group, fixed = per_group + counts, fixed + stays
    return Products(LayerWidths.of(coupling), per_kernel, per_group, float(coupling.other_parameters + fixed))


def channels_cost(coupling: Coupling) -> Products:
    """Return how many groups there are."""
    none = np.zeros(len(coupling.layers))
    return Products(LayerWidths.of(coupling), none, np.ones(len(coupling.sets)))


@dataclass(frozen=True, slots=True)
class SetCost(Record):
    """What a coupled set costs in the network as it is.

    Attributes:
        name: of the set.
        parameters, macs: what the network has less of when one group of the set goes.
        all_parameters, all_macs: when the whole set goes.
    """

    name: str
    parameters: int
    macs: float
    all_parameters: int
    all_macs: float


def set_costs(coupling: Coupling) -> tuple[SetCost, ...]:
    """Return what every coupled set costs, in parameters and in multiply-accumulates of one call on the example.

    Sets that a layer reads and writes share its kernels: the costs of several together are less than their sum.
    """
    widths = np.array([one.size for one in coupling.sets], dtype=np.float64)
    without = widths * (1 - np.eye(widths.size))
    counted = []
    for cost in (parameters_cost(coupling), macs_cost(coupling)):
        whole = cost.total(widths)
        counted.append((cost.savings(widths), np.array([whole - cost.total(row) for row in without])))
    (parameters, all_parameters), (macs, all_macs) = counted
    return tuple(
        SetCost(one.name, round(parameters[s]), float(macs[s]), round(all_parameters[s]), float(all_macs[s]))
        for s, one in enumerate(coupling.sets)
    )
