"""A random mask, drawn once before training and kept: the baseline of methods that choose weights or move masks."""

from __future__ import annotations

from campfire_fx.sparsity.budget import ERK
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.random_start import random_start
from campfire_fx.sparsity.regime import Regime


def static_random() -> Regime:
    """Divide the sparsity by Erdos-Renyi-Kernel, draw a mask at random in each layer, and train with it.

    Liu et al. 2022, arXiv 2202.02643; "Static" in the tables of RigL (arXiv 1911.11134).
    """
    return random_start("static-random", budget=ERK(), stem=True)


ENTRIES = (
    RegimeEntry(
        name="static-random",
        make=static_random,
        does="draws a random mask once, before training; layer sparsities by ERK: the baseline of dynamic methods",
        family="early",
        granularity="weight",
        gains="weights",
        source="Liu et al. 2022, arXiv 2202.02643",
    ),
)
