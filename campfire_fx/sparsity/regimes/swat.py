"""SWAT, sparse weight activation training (arXiv 2001.01969): dense master weights, sparse everything else."""

from __future__ import annotations

from campfire_fx.sparsity.budget import ERK, Budget, ByMomentum
from campfire_fx.sparsity.granularity import ELEMENT, KERNEL
from campfire_fx.sparsity.master import DenseMaster
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.schedule import Throughout
from campfire_fx.sparsity.score import l1, largest
from campfire_fx.sparsity.topk import TopK

PERIOD = 10

WEIGHTS = TopK(ELEMENT, largest)
EXACT = TopK(ELEMENT, largest, reuse=False)
KERNELS = TopK(KERNEL, l1, reuse=False)


def swat_u(period: int = PERIOD) -> Regime:
    """Make every layer as sparse as asked, weights and activations; the stem stays dense.

    Raises:
        RegimeError: the period is not a whole number from 1 up.
    """
    return _swat("swat-u", WEIGHTS, period)


def swat_erk(period: int = PERIOD) -> Regime:
    """Divide the sparsity by Erdos-Renyi-Kernel: large layers become sparser. The stem takes part.

    Raises:
        RegimeError: the period is not a whole number from 1 up.
    """
    return _swat("swat-erk", WEIGHTS, period, ERK())


def swat_m(period: int = PERIOD) -> Regime:
    """Divide the sparsity by momentum after every step; needs an attached optimizer that has some. The stem takes part.

    Raises:
        RegimeError: the period is not a whole number from 1 up.
    """
    return _swat("swat-m", WEIGHTS, period, ByMomentum())


def swat_structured(period: int = PERIOD) -> Regime:
    """Keep whole kernels, those of largest L1 norm; the paper calls them channels. Activations stay unstructured.

    Raises:
        RegimeError: the period is not a whole number from 1 up.
    """
    return _swat("swat-structured", KERNELS, period)


def _swat(name: str, convolutions: TopK, period: int, budget: Budget | None = None) -> Regime:
    return Regime(
        name,
        spatial=convolutions,
        pointwise=convolutions,
        linear=EXACT,
        schedule=Throughout,
        master=DenseMaster(period),
        budget=budget,
        stem=budget is not None,
    )
