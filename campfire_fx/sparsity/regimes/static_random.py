"""A random mask, drawn once before training and kept: the baseline of methods that choose weights or move masks."""

from __future__ import annotations

from campfire_fx.sparsity.budget import ERK
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.granularity import ELEMENT
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.schedule import Throughout
from campfire_fx.sparsity.scope import WITHIN_LAYER
from campfire_fx.sparsity.score import at_random
from campfire_fx.sparsity.selection import Cut
from campfire_fx.sparsity.topk import at_most


def static_random() -> Regime:
    """Divide the sparsity by Erdos-Renyi-Kernel, draw a mask at random in each layer, and train with it.

    Liu et al. 2022, arXiv 2202.02643; "Static" in the tables of RigL (arXiv 1911.11134).
    """
    cut = Cut(ELEMENT, at_random, WITHIN_LAYER, at_most)
    return Regime("static-random", cut, cut, cut, schedule=Throughout, budget=ERK(), stem=True)


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
