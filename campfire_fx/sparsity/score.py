"""Scores: how much a group of weights matters, from the magnitudes of its members.

Each takes magnitudes (..., members), filled up with zeros, and the number of real members (...), and returns (...).
Sums are divided by that number: groups of equal size keep their order, and a small group at the edge of the
weight is not ranked low only for being small.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from campfire_fx.sparsity.chance import agreed_generator

Score = Callable[[Tensor, Tensor], Tensor]


def largest(magnitudes: Tensor, _sizes: Tensor) -> Tensor:
    """Score a group by its largest magnitude (Campfire's CK: the max of nine)."""
    return magnitudes.amax(-1)


def l1(magnitudes: Tensor, sizes: Tensor) -> Tensor:
    """Score a group by the mean of its magnitudes (block FC, SWAT's kernels: the order of their sums)."""
    return magnitudes.sum(-1) / sizes


def l2(magnitudes: Tensor, sizes: Tensor) -> Tensor:
    """Score a group by the root mean square of its magnitudes (StructADMM: the order of the L2 norms)."""
    return (magnitudes.square().sum(-1) / sizes).sqrt()


def at_random(magnitudes: Tensor, _sizes: Tensor) -> Tensor:
    """Score groups by chance, whatever their weights: anew for each layer, and repeatable by `torch.manual_seed`.

    Every process of a run gets the same scores, whatever its seed; all of them must ask.
    """
    return torch.rand(magnitudes.shape[:-1], generator=agreed_generator()).to(magnitudes)
