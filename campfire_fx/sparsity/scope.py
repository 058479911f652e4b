"""Scopes: which groups are ranked against each other.

A scope is a tile of the grid of groups; the groups in one tile form a *pool*, and the lowest of every pool die. Or it
is all layers together: over_layers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.tiling import Tile, tiles, untiles


@dataclass(frozen=True, slots=True)
class Scope:
    """A grid of group scores as (pools, groups in a pool)."""

    name: str
    tile: Tile

    def __repr__(self) -> str:
        return self.name

    def pools(self, scores: Tensor) -> Tensor:
        """View (a, b, c) as (pools, size). A pool at the edge that is not full holds inf only: it is left whole."""
        pools = tiles(scores, self.tile, torch.inf).flatten(0, 2)
        if pools.numel() > scores.numel():
            partial = tiles(torch.zeros_like(scores), self.tile, torch.inf).flatten(0, 2).amax(1, keepdim=True)
            pools = pools + partial
        return pools

    def grid(self, pools: Tensor, shape: Sequence[int]) -> Tensor:
        """Undo `pools`: (pools, size) back to the grid (a, b, c) = `shape`."""
        counts = [1 if size is None else -(-length // size) for size, length in zip(self.tile, shape, strict=True)]
        return untiles(pools.reshape(*counts, pools.shape[1]), self.tile, shape)


WITHIN_LAYER = Scope("layer", (None, None, None))
WITHIN_KERNEL = Scope("kernel", (1, 1, None))
WITHIN_CHANNEL = Scope("channel", (None, 1, None))
WITHIN_FILTER = Scope("filter", (1, None, None))


def runs(length: int) -> Scope:
    """Runs of `length` neighbouring input channels, as N:M sparsity counts them; a shorter last run stays whole."""
    return Scope(f"runs of {length}", (1, length, 1))


Normalisation = Callable[[Tensor], Tensor]
"""From the scores of a layer's living groups, (n,), to numbers that compare with those of other layers: none falls
behind one that it was above."""


def as_they_are(scores: Tensor) -> Tensor:
    """Compare the scores themselves (global magnitude pruning)."""
    return scores


def by_norm(scores: Tensor) -> Tensor:
    """Divide by the L2 norm of the layer's scores (Molchanov et al. 2017, arXiv 1611.06440, layer-wise)."""
    return scores / scores.norm().clamp_min(1e-30)


def by_deviation(scores: Tensor) -> Tensor:
    """Divide by the root mean square over the layer: the standard deviation of weights whose mean is 0."""
    return scores / scores.square().mean().sqrt().clamp_min(1e-30)


def lamp(scores: Tensor) -> Tensor:
    """Divide the square of a score by the sum of the squares that are not below it (LAMP, Lee et al. 2021).

    Of equal scores the first is the lowest. arXiv 2010.07611: the best group of every layer has 1.
    """
    order = scores.double().argsort(stable=True)
    squares = scores.double()[order].square()
    above = squares.flip(0).cumsum(0).flip(0)
    return torch.empty_like(squares).index_copy_(0, order, squares / above.clamp_min(1e-300))


@dataclass(frozen=True, slots=True, repr=False)
class OverLayers(Scope):
    """All layers together that are asked for the same sparsity in the same era; by itself a layer is ranked within.

    Attributes:
        normalise: makes scores of different layers comparable.
        at_least: the share of its groups that every layer keeps, in [0, 1); one always stays.
    """

    normalise: Normalisation = as_they_are
    at_least: float = 0.0


def over_layers(normalise: Normalisation = as_they_are, at_least: float = 0.0) -> OverLayers:
    """Return the scope over all layers.

    Raises:
        RegimeError: the share is outside [0, 1).
    """
    at_least = plain(at_least)
    if isinstance(at_least, bool) or not isinstance(at_least, (int, float)) or not 0 <= at_least < 1:
        raise RegimeError(f"at_least: {at_least!r} is outside [0, 1). Give the share of its groups that a layer keeps.")
    how = getattr(normalise, "__name__", repr(normalise)).replace("_", " ")
    floor = f", at least {at_least:g} of each" if at_least else ""
    return OverLayers(f"all layers {how}{floor}", (None, None, None), normalise, at_least)
