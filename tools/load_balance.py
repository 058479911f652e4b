"""Load balance: how evenly the zeros of a sparse operand are spread over processing elements that wait for each other.

A sparse operand is seen as (U, V, P): U units, one for each row of the array; V kernels of each; P positions in a
kernel. A weight in the forward pass is (filters, channels per filter, positions). Rows take a tile of whole kernels at
a time and start the next together; units beyond the number of rows take another round.
"""

from __future__ import annotations

import torch
from torch import Tensor

from campfire_fx.base.errors import CostError


def imbalance(mask: Tensor, rows: int, tile: int) -> float:
    """Return the load of the fullest row against the mean row, over all tiles and rounds; 1 is perfect balance.

    Args:
        mask: (U, V, P) bool, True where a value is kept.
        rows: of the array; the units of a partial last round count as that many rows.
        tile: positions between two barriers; at least one kernel.

    Raises:
        CostError: the mask has not three axes or no element, or a number is below 1.
    """
    busy, kept = busy_fraction(mask, rows, tile), int(mask.sum())
    return busy * mask.numel() / kept if kept else 1.0


def busy_fraction(mask: Tensor, rows: int, tile: int, scan: int | None = None) -> float:
    """Return the time that a sparse operand takes, as a fraction of the time of a dense one.

    It is density x imbalance, and nowhere less than 1 / scan: so many positions a PE can look at in a cycle, where
    that is limited. Arguments and errors are those of `imbalance`.
    """
    loads, room = tile_loads(mask, rows, tile)
    if scan is not None:
        loads = torch.maximum(loads, room / scan)
    spent = sum(float(group.amax(0).sum()) * len(group) for group in loads.split(rows))
    return spent / mask.numel()


def tile_loads(mask: Tensor, rows: int, tile: int) -> tuple[Tensor, Tensor]:
    """Return how many values each unit keeps in each tile, (U, T) float64, and how many positions a tile has, (T,)."""
    if mask.ndim != 3 or not mask.numel():
        raise CostError(f"A mask of shape {tuple(mask.shape)} cannot be balanced. Give (units, kernels, positions).")
    if min(rows, tile) < 1:
        raise CostError(f"{rows} rows and a tile of {tile} positions are no array. Give 1 or more of each.")
    kernels = max(1, tile // mask.shape[2])
    parts = mask.sum(-1).split(kernels, dim=1)
    loads = torch.stack([part.sum(1) for part in parts], 1)
    room = torch.tensor([part.shape[1] * mask.shape[2] for part in parts], device=mask.device)
    return loads.double(), room.double()


def expected_busy_fraction(density: float, units: int, rows: int, tile: int, scan: int | None = None) -> float:
    """Return what `busy_fraction` is on average where each position is kept by chance, independently of the others.

    The fullest of r rows holds on average sum over x of P(max > x), with P(max <= x) = P(Binomial <= x) ** r.

    Args:
        density: chance of a position to be kept, in [0, 1].
        units: that are spread over the rows.
        rows: of the array.
        tile: positions between two barriers, all of them filled.
        scan: as in `busy_fraction`.

    Raises:
        CostError: a number is out of range.
    """
    if not 0 <= density <= 1 or min(units, rows, tile) < 1:
        raise CostError(f"Density {density}, {units} units, {rows} rows, a tile of {tile}: out of range.")
    below = _binomial(tile, density).cumsum(0).clamp(max=1.0)  # P(load <= x), x = 0 .. tile
    x = torch.arange(tile + 1, dtype=torch.float64)
    least = torch.full_like(x, 0.0 if scan is None else tile / scan)
    cost = torch.maximum(x, least)
    full, last = divmod(units, rows)
    spent = 0.0
    for n, times in ((rows, full), (last, 1)):
        highest = torch.diff(below**n, prepend=torch.zeros(1, dtype=torch.float64))
        spent += n * times * float((highest * cost).sum())
    return spent / (units * tile)


def _binomial(n: int, p: float) -> Tensor:
    """Return the probabilities of 0 .. n of n trials, (n + 1,) float64."""
    k = torch.arange(n + 1, dtype=torch.float64)
    size = torch.tensor(float(n), dtype=torch.float64)
    ways = torch.lgamma(size + 1) - torch.lgamma(k + 1) - torch.lgamma(size - k + 1)
    chance = torch.tensor(p, dtype=torch.float64)
    return torch.exp(ways + torch.xlogy(k, chance) + torch.xlogy(size - k, 1 - chance))
