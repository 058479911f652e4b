"""Reallocation: weights that die in one layer make room for others in any; how many each layer has is free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from campfire_fx.sparsity.exchange import OpenLayer
from campfire_fx.sparsity.granularity import Granularity
from campfire_fx.sparsity.over_layers import Ranked
from campfire_fx.sparsity.selection import DEAD, PROTECTED, lowest_of_all, rank


@dataclass(frozen=True, slots=True)
class Turnover:
    """The groups of a layer: which live, which of those die, and of how many weights each is.

    Attributes:
        living, dying: (a, b, c) bool.
        granularity: whose grid that is.
        size: weights of a group.
        shape: (K, C, P) of the weight.
    """

    living: Tensor
    dying: Tensor
    granularity: Granularity
    size: int
    shape: torch.Size

    @property
    def gone(self) -> int:
        """How many weights die."""
        return int(self.dying.sum()) * self.size

    @property
    def left(self) -> int:
        """How many weights live on."""
        return int(self.living.sum()) * self.size - self.gone

    @property
    def room(self) -> int:
        """How many groups can grow: all that were dead. What just died does not come back at once."""
        return int((~self.living).sum())

    def grown(self, count: int, first: Tensor) -> Tensor:
        """Return the next mask, (K, C, P): `count` dead groups grow, those that are lowest in `first`, (a, b, c)."""
        new = lowest_of_all(first.masked_fill(self.living, PROTECTED), count)
        return self.granularity.spread(self.living & ~self.dying | new, self.shape)


def below(layer: Ranked, limit: float) -> Turnover:
    """Let all groups die whose score is below a limit, but the best of the layer."""
    granularity = layer.cut.granularity
    scores = rank(layer.weight, layer.mask, granularity, layer.cut.score)
    dying = (scores > DEAD) & (scores < min(limit, float(scores.max())))
    return Turnover(scores > DEAD, dying, granularity, granularity.members(layer.mask.shape), layer.mask.shape)


def in_proportion(layers: Sequence[Turnover]) -> list[int]:
    """Return how many groups grow in each layer, so that as many weights grow as die, to less than one group.

    A layer's share is in proportion to the weights that live on in it (DSR, Algorithm 1). What finds no room in a layer
    is shared out among the others in the same way; what is then less than a group of a layer goes to the first that
    takes it.
    """
    left, grown = sum(layer.gone for layer in layers), [0] * len(layers)
    while fits := [i for i, one in enumerate(layers) if one.room > grown[i] and 0 < one.size <= left]:
        total, to_share = sum(layers[i].left for i in fits), left
        for i in fits:
            share = to_share * layers[i].left // (total * layers[i].size) if total else 0
            count = min(layers[i].room - grown[i], share)
            grown[i] += count
            left -= count * layers[i].size
        if left == to_share:
            grown[fits[0]] += 1
            left -= layers[fits[0]].size
    return grown


def by_gradient(layers: Sequence[OpenLayer], free: Sequence[Tensor], dying: int, total: int) -> list[Tensor]:
    """Return the next masks: the smallest weights of all layers die, and those of largest gradient grow, in any.

    The largest weight of each layer stays. What just died may grow again, and keeps its weight then. Of equal ones the
    first layer's die, and grow, first.

    Args:
        layers: that exchange weights.
        free: of each, which places may hold weights, (K, C, P) bool.
        dying: how many weights die.
        total: how many live in the end, as far as there is room.
    """
    device = layers[0].weight.device

    def together(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([tensor.flatten().to(device) for tensor in tensors])

    magnitudes = [one.weight.abs().masked_fill(~one.mask, PROTECTED) for one in layers]
    for one, magnitude in zip(layers, magnitudes, strict=True):
        if bool(one.mask.any()):
            magnitude.view(-1)[one.weight.abs().masked_fill(~one.mask, -1.0).argmax()] = PROTECTED
    living = together([one.mask for one in layers])
    kept = living & ~lowest_of_all(together(magnitudes), min(dying, int(living.sum())))
    steep = together([-one.gradient.abs() for one in layers]).masked_fill(kept | ~together(free), PROTECTED)
    grown = kept | lowest_of_all(steep, min(len(steep), max(0, total - int(kept.sum()))))
    parts = grown.split([one.mask.numel() for one in layers])
    return [part.view_as(one.mask).to(one.mask.device) for part, one in zip(parts, layers, strict=True)]
