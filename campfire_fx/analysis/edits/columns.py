"""The live columns of a convolution as graph operations: gather them from the input, then convolve 1x1.

A convolution is a product of matrices: rows are filters, columns are pairs of an input channel and a tap
(arXiv 1807.11091, sec. II). Of the input, laid out in columns, only those that some filter reads are made: channels
are chosen by an index, each tap is a slice, and what follows is a smaller dense product.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from campfire_fx.analysis.edits.convolutions import ConvolutionSettings
from campfire_fx.analysis.rules.mixing import PLAIN
from campfire_fx.analysis.taps import Axis

POINT = Axis(1, 1, 0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The columns to gather for a weight (K, C/groups, *kernel), tap by tap; groups have the same.

    Attributes:
        settings: of the convolution as it is.
        order: which columns, counted as `weight.flatten(1)` has them.
        taps: (tap, how many of its columns), in order.
    """

    settings: ConvolutionSettings
    order: Tensor
    taps: tuple[tuple[tuple[int, ...], int], ...]

    @staticmethod
    def of(weight: Tensor, settings: ConvolutionSettings) -> Columns:
        """Find the columns that are not zero in all filters."""
        live = (weight != 0).any(0).flatten(1).cpu()  # (C/groups, taps)
        tap, channel = live.t().nonzero().unbind(1)
        places = itertools.product(*(range(axis.size) for axis in settings.axes))
        counts = zip(places, live.sum(0).tolist(), strict=True)
        return Columns(settings, channel * live.shape[1] + tap, tuple((place, n) for place, n in counts if n))

    @property
    def channels(self) -> Tensor:
        """The input channel, within its group, of each column."""
        taps = 1
        for axis in self.settings.axes:
            taps *= axis.size
        return self.order // taps

    @property
    def after(self) -> ConvolutionSettings:
        """The settings of the convolution that reads the gathered columns."""
        ones = (1,) * len(self.settings.axes)
        return ConvolutionSettings((POINT,) * len(ones), ones, self.settings.groups, "zeros")

    def weight(self, weight: Tensor) -> Tensor:
        """Return a weight, or a tensor of its shape, with these columns alone: (K, columns, 1, ...)."""
        return select_columns(weight, self.order)

    def gather(self, source: fx.Node, index: fx.Node, channels: int) -> fx.Node:
        """Add the nodes that gather the columns, at the insertion point of the graph.

        Args:
            source: the input, (..., channels, *image).
            index: reads `channels` of this record.
            channels: how many the input has per group.
        """
        call, settings = source.graph.call_function, self.settings
        rank, groups = len(settings.axes), settings.groups
        grouped = groups > 1
        late = settings.mode == "zeros" and len(self.order) < channels  # pad what is fewer
        x = source if late else self._padded(source)
        if grouped:
            x = call(torch.unflatten, (x, -rank - 1, (groups, channels)))
        x = call(torch.index_select, (x, -rank - 1, index))
        x = self._padded(x) if late else x
        pieces, start = list[fx.Node](), 0
        for tap, count in self.taps:
            pieces.append(self._piece(x, slice(start, start + count), tap))
            start += count
        x = call(torch.cat, (pieces, -rank - 1)) if len(pieces) > 1 else pieces[0]
        return call(torch.flatten, (x, -rank - 2, -rank - 1)) if grouped else x

    def module(self, weight: Tensor, bias: Tensor | None = None) -> fx.GraphModule:
        """Return the convolution as a module that gathers: with the very nodes that a graph would get."""
        root, graph = nn.Module(), fx.Graph()
        tensors = {"weight": self.weight(weight), "index": self.channels.to(weight.device), "bias": bias}
        for name, tensor in tensors.items():
            root.register_buffer(name, tensor)
        x = self.gather(graph.placeholder("x"), graph.get_attr("index"), weight.shape[1])
        convolve: Any = PLAIN[len(self.settings.axes) - 1]
        added = None if bias is None else graph.get_attr("bias")
        graph.output(graph.call_function(convolve, (x, graph.get_attr("weight"), added, 1, 0, 1, self.settings.groups)))
        return fx.GraphModule(root, graph)

    def _padded(self, x: fx.Node) -> fx.Node:
        ends = [end for axis in reversed(self.settings.axes) for end in (axis.front, axis.back)]
        if not any(ends):
            return x
        mode = () if self.settings.mode == "zeros" else (self.settings.mode,)
        return x.graph.call_function(F.pad, (x, ends, *mode))

    def _piece(self, x: fx.Node, channels: slice, tap: Sequence[int]) -> fx.Node:
        """Take what one tap reads: at each output, the input `tap * dilation` further on."""
        axes = zip(self.settings.axes, self.settings.stride, tap, strict=True)
        image = tuple(_steps(axis, stride, place) for axis, stride, place in axes)
        if len(self.taps) == 1 and all(part == slice(None) for part in image):
            return x
        whole = slice(None) if len(self.taps) == 1 else channels
        index: Any = (..., whole, *image)
        return x.graph.call_function(operator.getitem, (x, index))


def select_columns(weight: Tensor, order: Tensor) -> Tensor:
    """Return some columns of a tensor (K, C/groups, *kernel) as (K, columns, 1, ...)."""
    chosen = weight.flatten(1).index_select(1, order.to(weight.device))
    return chosen.view(*chosen.shape, *[1] * (weight.ndim - 2))


def _steps(axis: Axis, stride: int, tap: int) -> slice:
    start = tap * axis.dilation
    stop = start - (axis.size - 1) * axis.dilation
    return slice(start or None, stop or None, stride if stride > 1 else None)
