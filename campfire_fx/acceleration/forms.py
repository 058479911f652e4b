"""The forms that a layer may have: one table, and how each is made of the layer as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from campfire_fx.acceleration.sites import Site
from campfire_fx.analysis.edits.columns import Columns
from campfire_fx.analysis.edits.convolutions import settings_of
from campfire_fx.analysis.edits.filter_groups import FilterGroups
from campfire_fx.analysis.rules import known_class
from campfire_fx.analysis.rules.layers import MAX_POOLS
from campfire_fx.base.compat import CONVOLUTION
from campfire_fx.kernels.libraries import CannotCompileError
from campfire_fx.kernels.ready import kernels
from campfire_fx.layers.channels_last import ChannelsLast
from campfire_fx.layers.fused import FusedLayer
from campfire_fx.layers.separate_pooling import separate_pooling
from campfire_fx.layers.sparse import sparse_layer

DENSE = "dense"
FEWEST_ZEROS = 0.4
"""Share of zeros with which skipping them may pay: kernels that skip do not reach the speed of dense ones."""
FEWEST_DEAD_COLUMNS = 0.1
"""Share of columns that are dead in all filters with which gathering the others may pay."""


@dataclass(frozen=True, slots=True)
class Form:
    """One form: its name, and from a layer the module that computes the same, or in words why there is none.

    The module is called as the site's is: `module(x)`, or `module(x, residual)`.
    """

    name: str
    make: Callable[[Site], nn.Module | str]


def skipping_zeros(site: Site) -> nn.Module | str:
    """Return the layer with kernels that skip zeros."""
    if site.zeros < FEWEST_ZEROS:
        return "few weights are zero"
    if any(call.dtype is not torch.float32 for call in site.calls):
        return "its input is not float32"
    made = sparse_layer(site.layer, site.activation)
    if isinstance(made, str):
        return made
    try:
        kernels()
    except CannotCompileError:
        return "there are no kernels"
    return made


def kernels_here() -> str:
    """Return the compiler that made the kernels, or in words why there are none."""
    try:
        return kernels().compiler
    except CannotCompileError as error:
        return str(error)


def gathered_columns(site: Site) -> nn.Module | str:
    """Return the convolution on the columns that some filter reads, if many are read by none."""
    layer = site.layer
    if not isinstance(layer, CONVOLUTION) or layer.transposed:
        return "it is not a plain convolution"
    weight = layer.weight.detach()
    live = int((weight != 0).any(0).sum())
    if not 0 < live <= (1 - FEWEST_DEAD_COLUMNS) * weight[0].numel():
        return "few columns are dead in all filters"
    if any(len(call.shape) != weight.ndim for call in site.calls):
        return "its input has no batch dimension"
    bias = None if layer.bias is None else layer.bias.detach()
    return FusedLayer(Columns.of(weight, settings_of(layer)).module(weight, bias), site.activation)


def channels_last(site: Site) -> nn.Module | str:
    """Return the convolution with channels last; what is read and given lies as before."""
    layer = site.layer
    if not isinstance(layer, CONVOLUTION) or layer.weight.ndim != 4 or any(len(call.shape) != 4 for call in site.calls):
        return "it is not a convolution over batches of images"
    if layer.weight.numel() == 0:
        return "it has no weights"
    return FusedLayer(ChannelsLast(layer), site.activation)


def grouped_filters(site: Site) -> nn.Module | str:
    """Return the convolution in groups, if its filters fall into sets that read the same few inputs."""
    layer = site.layer
    if not isinstance(layer, CONVOLUTION) or layer.transposed or layer.groups > 1:
        return "it is not a plain convolution"
    ways = FilterGroups.ways(layer.weight.detach())
    if not ways:
        return "its filters do not form sets that read the same few inputs"
    return FusedLayer(min(ways, key=lambda way: way.cost).module(layer), site.activation)


def axis_by_axis(site: Site) -> nn.Module | str:
    """Return max pooling over rows, then over columns."""
    return separate_pooling(site.layer, MAX_POOLS[known_class(site.layer)])


FORMS = (
    Form(DENSE, lambda site: site.module),
    Form("channels last", channels_last),
    Form("zeros skipped", skipping_zeros),
    Form("columns gathered", gathered_columns),
    Form("filters grouped", grouped_filters),
)
"""Every form of a layer with weights, that of the layer as it is first."""
POOLING_FORMS = (FORMS[0], Form("axis by axis", axis_by_axis))
"""Every form of max pooling."""


def forms_of(site: Site) -> tuple[Form, ...]:
    """Return the forms that a layer may have."""
    return POOLING_FORMS if known_class(site.layer) in MAX_POOLS else FORMS
