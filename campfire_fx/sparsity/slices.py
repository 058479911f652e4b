"""Slices: what groups of weights are made of, one parameter at a time, and how long each group is.

A *grouping* says which groups a penalty draws to zero: those of a granularity in each layer, the filters and input
channels of each layer, whole coupled groups, or single scales of norms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from campfire_fx.base.sharding import whole
from campfire_fx.sparsity.channels.coupling import CoupledLayer, Coupling
from campfire_fx.sparsity.channels.layers import coupling_of, with_coupling
from campfire_fx.sparsity.granularity import Granularity
from campfire_fx.sparsity.layer import PrunedLayer, exact


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """A parameter cut into slices, each a part of one group.

    Attributes:
        parameter: it may be spread over processes.
        lengths: from the whole parameter, detached, to the L2 norm of each slice.
        spread: from a number for each slice to one for each entry, of the parameter's shape.
        groups: number of each slice's group, of the shape of `lengths`; `count` stands for no group. None: every
            slice is a group by itself.
        count: of groups.
    """

    parameter: Tensor
    lengths: Callable[[Tensor], Tensor]
    spread: Callable[[Tensor], Tensor]
    groups: Tensor | None = None
    count: int = 0

    @property
    def own(self) -> Tensor:
        """The L2 norm of each slice. Of a parameter that is spread over processes, all of them must ask."""
        return self.lengths(exact(whole(self.parameter.detach())))


class Grouping(Protocol):
    """Which groups there are. A frozen record of numbers: a `state_dict` holds them."""

    couples: ClassVar[bool]
    """Whether it asks for the coupled channels of the model."""

    def slices(self, layers: Sequence[PrunedLayer]) -> Iterator[Slices]:
        """Yield what the groups are made of."""


def norms_of(slices: Sequence[Slices]) -> list[Tensor]:
    """Return, for each slice of each parameter, the L2 norm of the group that it is a part of; 0 in no group."""
    own = [one.own for one in slices]
    total: Tensor | None = None
    for one, length in zip(slices, own, strict=True):
        if one.groups is not None:
            total = length.new_zeros(one.count + 1, dtype=torch.float64) if total is None else total
            total.index_add_(0, one.groups.flatten(), length.double().square().flatten())
    if total is None:
        return own
    total[-1] = 0
    return [
        length if one.groups is None else total.sqrt()[one.groups].to(length)
        for one, length in zip(slices, own, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class InLayers:
    """The groups of a granularity, in each layer by itself."""

    granularity: Granularity
    couples: ClassVar[bool] = False
    name: str = field(default="in layers", init=False)

    def slices(self, layers: Sequence[PrunedLayer]) -> Iterator[Slices]:
        """See `Grouping`."""
        for layer in layers:
            shape = layer.module.as_filters(layer.mask).shape
            yield Slices(
                layer.module.weight,
                lambda weight, layer=layer: torch.linalg.vector_norm(  # type: ignore[misc]
                    self.granularity.split(layer.module.as_filters(weight)), dim=-1
                ),
                lambda values, layer=layer, shape=shape: layer.module.from_filters(  # type: ignore[misc]
                    self.granularity.spread(values, shape)
                ),
            )


@dataclass(frozen=True, slots=True)
class ChannelsOfLayers:
    """The filters and the input channels of each layer that can go, each by itself (SSL, PruneTrain).

    Depthwise layers only pass channels on: they have no part. Channels of the model's input and output stay.
    """

    couples: ClassVar[bool] = True
    name: str = field(default="channels of layers", init=False)

    def slices(self, layers: Sequence[PrunedLayer]) -> Iterator[Slices]:
        """See `Grouping`."""
        for layer, coupled in with_coupling(layers, coupling_of(layers)):
            if not coupled.goes_whole:
                yield _alone(_filters(layer, coupled, coupling_of(layers)))
                yield _alone(inputs_of(layer, coupled, coupling_of(layers)))


@dataclass(frozen=True, slots=True)
class CoupledGroups:
    """Whole coupled groups, each with all of its filters, and with its input channels and scales of norms if asked."""

    inputs: bool = False
    scales: bool = False
    couples: ClassVar[bool] = True
    name: str = field(default="coupled groups", init=False)

    def slices(self, layers: Sequence[PrunedLayer]) -> Iterator[Slices]:
        """See `Grouping`."""
        coupling = coupling_of(layers)
        for layer, coupled in with_coupling(layers, coupling):
            yield _filters(layer, coupled, coupling)
            if self.inputs and not coupled.goes_whole:
                yield inputs_of(layer, coupled, coupling)
        if self.scales:
            yield from _scales(layers, coupling)


@dataclass(frozen=True, slots=True)
class NormScales:
    """The scales of norms on the way of channels that can go, each by itself (Network Slimming)."""

    couples: ClassVar[bool] = True
    name: str = field(default="norm scales", init=False)

    def slices(self, layers: Sequence[PrunedLayer]) -> Iterator[Slices]:
        """See `Grouping`."""
        for one in _scales(layers, coupling_of(layers)):
            yield _alone(one)


def _filters(layer: PrunedLayer, coupled: CoupledLayer, coupling: Coupling) -> Slices:
    module = layer.module
    shape = module.as_filters(layer.mask).shape
    return Slices(
        module.weight,
        lambda weight: torch.linalg.vector_norm(module.as_filters(weight).flatten(1), dim=1),
        lambda values: module.from_filters(values[:, None, None].expand(shape)),
        coupled.outputs_on(module.weight.device) % (coupling.groups + 1),
        coupling.groups,
    )


def inputs_of(layer: PrunedLayer, coupled: CoupledLayer, coupling: Coupling) -> Slices:
    """Return the weight of a layer by its input channels."""
    module, groups = layer.module, coupled.groups
    rows, inputs, taps = module.as_filters(layer.mask).shape

    def lengths(weight: Tensor) -> Tensor:
        return torch.linalg.vector_norm(module.as_filters(weight).unflatten(0, (groups, -1)), dim=(1, 3)).flatten()

    def spread(values: Tensor) -> Tensor:
        every = values.view(groups, 1, inputs, 1).expand(groups, rows // groups, inputs, taps)
        return module.from_filters(every.reshape(rows, inputs, taps))

    numbers = coupled.inputs_on(module.weight.device) % (coupling.groups + 1)
    return Slices(module.weight, lengths, spread, numbers, coupling.groups)


def _scales(layers: Sequence[PrunedLayer], coupling: Coupling) -> Iterator[Slices]:
    for vector in coupling.vectors:
        if vector.norm and vector.parameter and vector.name.endswith(".weight"):
            weight = layers[0].model.get_parameter(vector.name)
            numbers = vector.groups_on(weight.device) % (coupling.groups + 1)
            yield Slices(weight, torch.abs, lambda values: values, numbers, coupling.groups)


def _alone(one: Slices) -> Slices:
    """Return slices each of which is a group by itself, those in no group left out: their length counts as 0."""
    assert one.groups is not None
    inside = one.groups < one.count
    return Slices(one.parameter, lambda weight: one.lengths(weight) * inside, one.spread)
