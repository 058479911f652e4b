"""Sets of filters that read the same inputs: a convolution of them is a gather and a grouped convolution.

Filters of a set are put behind each other, and so are the inputs that each set reads: what is left is a convolution
in groups, one for each set. The sets need not be neighbours in the layer; the outputs are put into their order again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from math import gcd
from typing import Any

import torch
from torch import Tensor, fx, nn

_MOST_SETS = 0.5  # as a part of the filters: with more, hardly two filters read the same
_MOST_LEFT = 0.9  # part of the products; with more left, groups cannot be worth their gathers
_MULTIPLES = ((1, 1), (1, 8), (8, 8), (16, 1), (16, 16))  # of the sizes and of the inputs of groups


@dataclass(frozen=True, slots=True, eq=False)
class FilterGroups:
    """Filters in groups of equal size, and the inputs that each group reads.

    Attributes:
        filters: (groups, size) which filter lies where; groups that are not full repeat their first.
        inputs: (groups, width) which inputs a group reads, rising; dead ones fill up the shorter lists.
        outputs: (K,) where each filter lies, counted through all groups.
    """

    filters: Tensor
    inputs: Tensor
    outputs: Tensor

    @property
    def cost(self) -> int:
        """Weights per position of the kernel: what a call computes, for each pixel."""
        return self.filters.numel() * self.inputs.shape[1]

    @property
    def in_order(self) -> bool:
        """Whether outputs lie as the filters did."""
        return torch.equal(self.outputs, torch.arange(self.filters.numel()))

    def cut(self, tensor: Tensor) -> Tensor:
        """Return a weight (K, C, *kernel), or a tensor of its shape, as (groups * size, width, *kernel); a bias too."""
        filters = self.filters.flatten().to(tensor.device)
        chosen = tensor.index_select(0, filters)
        if tensor.ndim == 1:
            return chosen
        inputs = self.inputs.repeat_interleave(self.filters.shape[1], 0).to(tensor.device)
        return chosen[torch.arange(len(filters), device=tensor.device).unsqueeze(1), inputs]

    def module(self, layer: Any) -> fx.GraphModule:
        """Return a convolution of torch's as a module that gathers, convolves in groups, and orders its outputs."""
        root, graph, dim, conv = nn.Module(), fx.Graph(), 1 - layer.weight.ndim, copy.deepcopy(layer)
        root.conv = conv
        conv.weight = nn.Parameter(self.cut(layer.weight.detach()), requires_grad=False)
        if layer.bias is not None:
            conv.bias = nn.Parameter(self.cut(layer.bias.detach()), requires_grad=False)
        counts = {"groups": len(self.filters), "in_channels": self.inputs.numel(), "out_channels": self.filters.numel()}
        for name, count in counts.items():
            setattr(conv, name, count)
        root.register_buffer("inputs", self.inputs.flatten().to(layer.weight.device))
        root.register_buffer("outputs", self.outputs.to(layer.weight.device))
        x = graph.call_function(torch.index_select, (graph.placeholder("x"), dim, graph.get_attr("inputs")))
        x = graph.call_module("conv", (x,))
        in_order = x if self.in_order else graph.call_function(torch.index_select, (x, dim, graph.get_attr("outputs")))
        graph.output(in_order)
        return fx.GraphModule(root, graph)

    @staticmethod
    def ways(weight: Tensor) -> list[FilterGroups]:
        """Return the ways to put the filters of a weight (K, C, *kernel) in groups, whoever made its zeros.

        There are several where sets are not of one size: each a group, as long as the longest; or divided into groups
        of a smaller size that all have in common, or nearly so. Sizes and lists as short as they can be compute least;
        multiples of 8 and 16 suit the vectors of a CPU and the tiles of a GPU. All compute less than the weight. A
        weight of zeros has none: torch gives no channels where there are no inputs.
        """
        reads = (weight != 0).flatten(2).any(2).cpu()
        patterns, kind = reads.unique(dim=0, return_inverse=True)
        if len(patterns) > max(1, _MOST_SETS * len(weight)) or not bool(reads.any()):
            return []
        sets = _sets(patterns, kind)
        longest = max(map(len, sets))
        shorter = {reduce(gcd, map(len, sets)), *map(len, sets)} - {1, longest}
        found = [_in_groups(reads, sets, _up(longest, size), width) for size, width in _MULTIPLES]
        split = min((_in_groups(reads, sets, size) for size in shorter), key=lambda way: way.cost, default=found[0])
        ways = {(way.filters.shape, way.inputs.shape): way for way in (*found, split)}
        return [way for way in ways.values() if way.cost <= _MOST_LEFT * reads.numel()]


def _sets(patterns: Tensor, kind: Tensor) -> list[list[int]]:
    """Return the filters of each pattern, rising; those whose inputs are part of another pattern's join that.

    A filter that is dead, or has lost one more input by chance, so keeps no set from being whole. The emptiest of the
    sets that it may join takes it.
    """
    hosts, guests = list[int](), list[int]()
    for one in patterns.sum(1).argsort(dim=0, descending=True, stable=True).tolist():
        inside = any(not bool((patterns[one] & ~patterns[host]).any()) for host in hosts)
        (guests if inside else hosts).append(one)
    members: dict[int, list[int]] = {host: (kind == host).nonzero().flatten().tolist() for host in hosts}
    for guest in guests:
        able = [host for host in hosts if not bool((patterns[guest] & ~patterns[host]).any())]
        for filters in (kind == guest).nonzero().flatten().tolist():
            min((members[host] for host in able), key=len).append(filters)
    return sorted(map(sorted, members.values()))


def _in_groups(reads: Tensor, sets: Iterable[list[int]], size: int, multiple: int = 1) -> FilterGroups:
    """Divide sets into groups of one size, each with as many inputs: a multiple of this number if there are so many.

    Args:
        reads: (K, C) bool, which inputs each filter reads.
        sets: filters that may be in one group.
        size: of the groups.
        multiple: of the number of inputs.
    """
    groups = [one[start : start + size] for one in sets for start in range(0, len(one), size)]
    outputs = torch.empty(len(reads), dtype=torch.int64)
    for number, group in enumerate(groups):
        outputs[group] = number * size + torch.arange(len(group))
    filters = torch.tensor([group + group[:1] * (size - len(group)) for group in groups])
    read = reads[filters].any(1)  # (groups, C)
    width = min(_up(int(read.sum(1).max()), multiple), reads.shape[1])
    first = (~read).to(torch.uint8).argsort(dim=1, stable=True)  # what is read, then what is dead
    return FilterGroups(filters, first[:, :width].sort(dim=1).values, outputs)


def _up(number: int, multiple: int) -> int:
    """Return the next multiple, or the number itself if it is one."""
    return -(-number // multiple) * multiple
