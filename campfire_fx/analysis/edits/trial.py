"""A convolution as it is, as a function to be timed, and inputs for it of the example's shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from campfire_fx.analysis.edits.convolutions import PlainConvolution, first_input
from campfire_fx.analysis.graph_run import GraphRun
from campfire_fx.analysis.rules import Kind
from campfire_fx.analysis.rules.mixing import PLAIN
from campfire_fx.analysis.rules.structure import MixCall

MARGIN = 0.1
"""How much faster another way must be, as a part of the time of the convolution: what timing is unsure of."""


def trial_inputs(conv: PlainConvolution) -> Iterator[Tensor]:
    """Yield an input at random for every call in evaluation; for all calls where only training has some."""
    weight = conv.weight.detach()
    for run, call in [site for site in conv.sites if not site[0].training] or conv.sites:
        yield torch.randn(_input_shape(run, call, conv), dtype=weight.dtype, device=weight.device)


def _input_shape(run: GraphRun, call: MixCall, conv: PlainConvolution) -> list[int]:
    """Return the shape of what a call reads, as the example has it."""
    shape = list(run.values[call.source].shape)
    shape[call.channel_dim] = conv.weight.shape[1] * conv.settings.groups
    given = first_input(call.node)
    if run.rule(given).kind is Kind.PAD and given not in run.values:  # cropping has put it there
        ends: Any = given.args[1]
        for i in range(len(ends) // 2):
            shape[-1 - i] += ends[2 * i] + ends[2 * i + 1]
    return shape


def as_it_is(conv: PlainConvolution) -> Callable[[Tensor], Tensor]:
    """Return the convolution without its bias."""
    axes, settings, weight = conv.settings.axes, conv.settings, conv.weight.detach()
    convolve, dilation = PLAIN[len(axes) - 1], [axis.dilation for axis in axes]
    if settings.mode == "zeros" and all(axis.front == axis.back for axis in axes):
        padding = [axis.front for axis in axes]
        return lambda x: convolve(x, weight, None, settings.stride, padding, dilation, settings.groups)
    ends = [end for axis in reversed(axes) for end in (axis.front, axis.back)]
    mode = "constant" if settings.mode == "zeros" else settings.mode
    return lambda x: convolve(F.pad(x, ends, mode), weight, None, settings.stride, 0, dilation, settings.groups)
