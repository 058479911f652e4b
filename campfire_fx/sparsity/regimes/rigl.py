"""RigL (arXiv 1911.11134): sparse from the first step, with weights that die for others to grow."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain_fields
from campfire_fx.sparsity.budget import ERK
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.exchange import Moment
from campfire_fx.sparsity.random_start import random_start
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.selection import PROTECTED, lowest_of_all


@dataclass(frozen=True, slots=True)
class DropGrow:
    """Every `period` steps the smallest weights of a layer die, and as many of largest gradient grow, from zero.

    What just died may grow again, and keeps its weight then. The `fraction` falls to 0 along half a cosine (section 3).
    """

    period: int = 100
    fraction: float = 0.3

    def __post_init__(self) -> None:
        plain_fields(self)
        if type(self.period) is not int or self.period < 1 or not 0 <= self.fraction <= 1:
            raise RegimeError(f"{self}: give a period of 1 step or more, a fraction in [0, 1].")

    def __call__(self, mask: Tensor, proposal: Tensor) -> Tensor:
        """Take up the mask that training begins with: see `Update`."""
        return mask & proposal

    def exchange(self, weight: Tensor, gradient: Tensor, mask: Tensor, moment: Moment) -> Tensor:
        """Return the next mask (K, C, P), with as many weights: see `Exchange`."""
        count = int(min(self.fraction / 2 * (1 + math.cos(math.pi * moment.progress)) * mask.sum(), (~mask).sum()))
        kept = mask & ~lowest_of_all(weight.abs().masked_fill(~mask, PROTECTED), count)
        return kept | lowest_of_all((-gradient.abs()).masked_fill(kept, PROTECTED), count)


def rigl(period: int = 100) -> Regime:
    """Divide the sparsity by Erdos-Renyi-Kernel, begin with a mask drawn at random, and exchange weights in the era.

    Raises:
        RegimeError: the period is not a whole number from 1 up.
    """
    return random_start("rigl", update=DropGrow(period), budget=ERK(), stem=True)


ENTRIES = (
    RegimeEntry(
        name="rigl",
        make=rigl,
        does="prunes the smallest weights and regrows those with the largest gradient; layer sparsities by ERK",
        family="dynamic",
        granularity="weight",
        gains="weights",
        source="Evci et al. 2020, arXiv 1911.11134, section 3",
        needs=("gradients",),
    ),
)
