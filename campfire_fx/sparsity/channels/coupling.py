"""Coupled channels as plain data: which filters, norm entries and input channels live or die together.

A *group* is one such unit: every filter that writes a channel, every entry of a norm on its way, and every input
channel that reads it, over residual adds, depthwise and grouped layers, concatenations, splits and gates. Groups of
the same layers form a *coupled set*: they are alike but for their weights, and compete with each other. Groups are
numbered over the whole model; -1 stands for a channel that has to stay. Made by `analysis.coupled.find_coupling`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from campfire_fx.base.records import Record

Groups = NDArray[np.int64]
"""Numbers of groups; -1: no group."""
Alive = NDArray[np.bool_]
"""Which groups live, (groups,)."""
Floats = NDArray[np.float64]


class LayerTimes(Protocol):
    """Times of layers over widths; `steps`: how many channels more a layer must have, at times, to take longer."""

    @property
    def steps(self) -> Floats:
        """Return a number of channels for each layer, (layers,)."""

    def __call__(self, inputs: Floats, outputs: Floats) -> Floats:
        """Return milliseconds from input channels and filters, (layers,) each."""

    def for_paths(self, paths: Sequence[str]) -> LayerTimes:
        """Return the times of other layers of the same model."""


@dataclass(frozen=True, slots=True, eq=False)
class CoupledLayer(Record):
    """One weight that mixes channels.

    Attributes:
        path: of the layer; where a function reads the weight, of the weight.
        operation: "Conv2d", "Linear", ...
        outputs: group of each filter, (K,).
        inputs: group of each input channel, (G, C / G) for G groups of the layer.
        taps: weights in a kernel.
        macs: multiply-accumulates of one kernel in one call of the model on its example.
        masked: whether it can hold a mask.
        out_axis: axis of the weight along which its filters lie.
        stored: whether its weight is a parameter that a slim model has: not that of an auxiliary head.
    """

    path: str
    operation: str
    outputs: Groups
    inputs: Groups
    taps: int
    macs: float
    masked: bool = True
    out_axis: int = 0
    stored: bool = True
    _copies: dict[tuple[str, torch.device], Tensor] = field(default_factory=dict, repr=False)

    @property
    def groups(self) -> int:
        """How many groups of filters it has that read inputs of their own; 1 for an ordinary layer."""
        return int(self.inputs.shape[0])

    @property
    def goes_whole(self) -> bool:
        """Whether it couples its inputs with its filters, group by group, as a depthwise convolution does."""
        together = np.concatenate([self.inputs, self.outputs.reshape(self.groups, -1)], axis=1)
        return self.groups > 1 and bool((together == together[:, :1]).all())

    def inputs_on(self, device: torch.device) -> Tensor:
        """Return the groups of the input channels, (C,), on a device; copied there once."""
        return _copied(self._copies, "inputs", self.inputs.reshape(-1), device)

    def outputs_on(self, device: torch.device) -> Tensor:
        """Return the groups of the filters, (K,), likewise."""
        return _copied(self._copies, "outputs", self.outputs, device)

    def kernels(self, alive: Alive) -> Alive:
        """Return which kernels live, (K, C / G): those whose filter and whose input channel do."""
        rows, columns = lives(self.outputs, alive), lives(self.inputs, alive)
        return rows[:, None] & np.repeat(columns, rows.size // self.groups, axis=0)

    def widths(self, alive: Alive) -> tuple[int, int]:
        """Return (input channels, filters) that live."""
        return int(lives(self.inputs, alive).sum()), int(lives(self.outputs, alive).sum())


@dataclass(frozen=True, slots=True, eq=False)
class CoupledVector(Record):
    """A parameter or buffer with entries of single channels: of a norm, a bias, a scale.

    Attributes:
        name: as in the model's `state_dict`.
        groups: group of each entry, of the tensor's shape.
        parameter: whether it is a parameter that a slim model has, and counted as one.
        norm: path of the norm that it belongs to; "" for other tensors.
        zeroed: whether it is zero in dead channels (not the variance of a norm).
    """

    name: str
    groups: Groups
    parameter: bool
    norm: str = ""
    zeroed: bool = True
    _copies: dict[tuple[str, torch.device], Tensor] = field(default_factory=dict, repr=False)

    def groups_on(self, device: torch.device) -> Tensor:
        """Return the groups of the entries on a device; copied there once."""
        return _copied(self._copies, "entries", self.groups, device)


def _copied(copies: dict[tuple[str, torch.device], Tensor], name: str, groups: Groups, device: torch.device) -> Tensor:
    if (name, device) not in copies:
        copies[name, device] = torch.from_numpy(groups).to(device)
    return copies[name, device]


@dataclass(frozen=True, slots=True, eq=False)
class CoupledSet(Record):
    """Groups of the same layers: a range of numbers.

    Attributes:
        name: the first layer that writes them; where it writes several sets, with the place among these.
        start, stop: its groups are `range(start, stop)`.
        writers, readers: paths of the layers that write and read them, in the model's order.
        norms: paths of the norms that they pass.
        channels: how many channels one group has: more than one where a grouped layer couples them. Where its layers
            have different numbers, their greatest common divisor.
        whole: how many groups it had in the dense model, where it was made smaller since.
    """

    name: str
    start: int
    stop: int
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    norms: tuple[str, ...] = ()
    channels: int = 1
    whole: int = 0

    @property
    def size(self) -> int:
        """How many groups it has."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Stays(Record):
    """Channels that have to stay: where, how many, and why."""

    where: str
    channels: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Coupling(Record):
    """The coupled channels of a model.

    Attributes:
        sets: all coupled sets; together they hold the groups 0 .. `groups` - 1.
        layers: all weights that mix channels, in the model's order.
        vectors: what else has entries of single channels.
        stays: channels that are in no group, and why.
        other_macs, other_parameters, other_ms: what is in none of the layers and vectors, and always stays.
        times: of the layers over their widths, where they were measured.
        dense: costs of the dense model that the training began with, by name: see `costs_of`.
    """

    sets: tuple[CoupledSet, ...]
    layers: tuple[CoupledLayer, ...]
    vectors: tuple[CoupledVector, ...]
    stays: tuple[Stays, ...] = ()
    other_macs: float = 0.0
    other_parameters: int = 0
    other_ms: float = 0.0
    times: LayerTimes | None = None
    dense: Mapping[str, float] = field(default_factory=dict)

    def _told(self) -> Iterator[str]:
        yield f"{self.groups:,} groups in {len(self.sets)} sets"
        yield f"{len(self.layers)} layers"
        yield f"{sum(stays.channels for stays in self.stays):,} channels stay"

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return self.sets[-1].stop if self.sets else 0

    @property
    def set_of(self) -> Groups:
        """Return the number of each group's set, (groups,)."""
        return np.repeat(np.arange(len(self.sets)), [one.size for one in self.sets])

    @property
    def standing(self) -> str:
        """Return sentences, each after a space, about the most channels that stay, and why."""
        most = sorted(self.stays, key=lambda stays: -stays.channels)[:3]
        return "".join(f" {stays.channels} channels stay at {stays.where}: {stays.reason}." for stays in most)

    def widths(self, alive: Alive) -> Groups:
        """Return how many groups of each set live, (sets,)."""
        return np.bincount(self.set_of[alive], minlength=len(self.sets))


def lives(groups: Groups, alive: Alive) -> Alive:
    """Return which entries live, same shape: those whose group does, and those that have none."""
    if not alive.size:
        return np.ones(groups.shape, dtype=np.bool_)
    return alive[groups] | (groups < 0)


def summed(values: Floats, groups: Groups, count: int) -> Floats:
    """Add up the values of each group's entries: two arrays of one shape to (count,)."""
    inside = groups >= 0
    return np.bincount(groups[inside], weights=values[inside], minlength=count).astype(np.float64)


def alive_in(layers: Sequence[tuple[CoupledLayer, Alive]], count: int) -> Alive:
    """Return which groups live by what masks keep: those that are both written and read.

    Args:
        layers: each with its live kernels, (K, C / G).
        count: of groups.
    """
    written, read, reads = np.zeros((3, count + 1), dtype=np.bool_)  # the last one takes what is in no group
    for layer, kernels in layers:
        written[layer.outputs[kernels.any(1)]] = True
        reads[layer.inputs] = True
        read[layer.inputs[kernels.reshape(layer.groups, -1, kernels.shape[1]).any(1)]] = True
    return (written & (read | ~reads))[:count]
