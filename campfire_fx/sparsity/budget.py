"""Budgets: how the sparsity asked for is divided among layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity.selection import ROUNDING

_ROUNDS = 1000
_FULL = 0.99


class Budget(Protocol):
    """Divides the weights that stay among layers. A frozen record."""

    def divide(self, shapes: Sequence[tuple[int, ...]], sparsity: float) -> tuple[float, ...]:
        """Return the sparsity of each layer, in [0, 1), before training; all together have the one asked for.

        Args:
            shapes: of the layers' weights, as torch has them.
            sparsity: in [0, 1).
        """


@dataclass(frozen=True, slots=True)
class ERK:
    """Erdos-Renyi-Kernel: a density in proportion to (sum of the weight's sizes) / (product of them).

    The sizes are all of the weight's: filters, channels per group, and the kernel's. A layer that would get more
    than it has stays dense, and the others share what is left (RigL, 3; SWAT-ERK).
    """

    def divide(self, shapes: Sequence[tuple[int, ...]], sparsity: float) -> tuple[float, ...]:
        """See `Budget`.

        Raises:
            RegimeError: the sparsity is out of range, or a shape is empty.
        """
        sizes = [math.prod(shape) for shape in shapes]
        if not 0 <= sparsity < 1:
            raise RegimeError(f"ERK: a sparsity of {sparsity!r} is outside [0, 1).")
        if not all(map(sum, shapes)) or not all(sizes):
            raise RegimeError(f"ERK: one of the weights of shapes {tuple(map(tuple, shapes))} holds nothing.")
        raw = [sum(shape) / size for shape, size in zip(shapes, sizes, strict=True)]
        dense: set[int] = set()
        while len(dense) < len(sizes):
            rest = [layer for layer in range(len(sizes)) if layer not in dense]
            left = (1 - sparsity) * sum(sizes) - sum(sizes[layer] for layer in dense)
            scale = left / sum(raw[layer] * sizes[layer] for layer in rest)
            over = {layer for layer in rest if scale * raw[layer] > 1}
            if not over:
                return tuple(0.0 if i in dense else max(0.0, 1 - scale * raw[i]) for i in range(len(sizes)))
            dense |= over
        return (0.0,) * len(sizes)


@dataclass(frozen=True, slots=True)
class ByMomentum:
    """A number of weights in proportion to the mean magnitude of the momentum of those in use (SWAT-M).

    It is divided anew after every step. Before the first there is no momentum: all layers are as sparse as asked,
    a choice made here.
    """

    def divide(self, shapes: Sequence[tuple[int, ...]], sparsity: float) -> tuple[float, ...]:
        """See `Budget`."""
        return (sparsity,) * len(shapes)

    def redistribute(self, means: Sequence[float], sizes: Sequence[int], sparsity: float) -> tuple[float, ...]:
        """Return the sparsity of each layer for the next step.

        nnz = ceil(share of the momentum * density * number of all weights); a layer that would get more than 99 %
        of its weights gets all of them, and what it leaves over is spread evenly over the others, again and again.

        Args:
            means: of each layer, of the magnitude of momentum over the weights in use; not all 0.
            sizes: how many weights each layer has.
            sparsity: of all layers together.
        """
        total = sum(means)
        wanted = [math.ceil(mean / total * (1 - sparsity) * sum(sizes) - ROUNDING) for mean in means]
        for _ in range(_ROUNDS):
            full = {i for i, size in enumerate(sizes) if wanted[i] > _FULL * size}
            left = sum(max(0, wanted[i] - sizes[i]) for i in full)
            wanted = [sizes[i] if i in full else wanted[i] for i in range(len(sizes))]
            rest = [i for i in range(len(sizes)) if i not in full]
            if left <= 0 or not rest:
                break
            for place, i in enumerate(rest):
                wanted[i] += left // len(rest) + (place < left % len(rest))
        return tuple(1 - max(1, count) / size for count, size in zip(wanted, sizes, strict=True))
