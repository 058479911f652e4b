"""Gradual magnitude pruning (Zhu and Gupta 2017, arXiv 1710.01878), layer by layer or over all layers together."""

from __future__ import annotations

from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.granularity import ELEMENT
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.scope import WITHIN_LAYER, Scope, as_they_are, lamp, over_layers
from campfire_fx.sparsity.score import largest
from campfire_fx.sparsity.selection import Cut


def gradual_magnitude() -> Regime:
    """Make every layer equally sparse, single weights by magnitude, along a cubic schedule (Zhu and Gupta, eq. (1)).

    The schedule is that of all regimes, with exponent 3 and an initial sparsity of 0. The paper moves masks every 100
    to 1000 steps; here they move once an epoch. It differs from "unstructured" in linear layers: no weight is spared.
    """
    return _by_magnitude("gradual-magnitude", WITHIN_LAYER)


def global_magnitude(at_least: float = 0.0) -> Regime:
    """Rank the weights of all layers together, by magnitude: the sparsity is that of all, and layers find their own.

    Args:
        at_least: the share of its weights that every layer keeps; one always stays.

    Raises:
        RegimeError: the share is outside [0, 1).
    """
    return _by_magnitude("global-magnitude", over_layers(as_they_are, at_least))


def layer_adaptive(at_least: float = 0.0) -> Regime:
    """Rank the weights of all layers together by their LAMP score (Lee et al. 2021, arXiv 2010.07611).

    A weight's square over the sum of the squares in its layer that are not below it: what removing it and all below it
    distorts the layer by. The paper prunes a trained network once, or in rounds; here sparsity rises over the era.

    Args:
        at_least: the share of its weights that every layer keeps; one always stays, as in the paper.

    Raises:
        RegimeError: the share is outside [0, 1).
    """
    return _by_magnitude("lamp", over_layers(lamp, at_least))


def _by_magnitude(name: str, scope: Scope) -> Regime:
    cut = Cut(ELEMENT, largest, scope)
    return Regime(name, spatial=cut, pointwise=cut, linear=cut)


ENTRIES = (
    RegimeEntry(
        name="gradual-magnitude",
        make=gradual_magnitude,
        does="prunes the smallest weights of each layer along a cubic schedule, linear layers included",
        family="magnitude",
        granularity="weight",
        gains="weights",
        source="Zhu and Gupta 2017, arXiv 1710.01878, eq. (1)",
    ),
    RegimeEntry(
        name="global-magnitude",
        make=global_magnitude,
        does="prunes the smallest weights of all layers together, so that layers end at different sparsities",
        family="magnitude",
        granularity="weight",
        gains="weights",
        source="Zhu and Gupta 2017, arXiv 1710.01878, eq. (1), over all layers",
    ),
    RegimeEntry(
        name="lamp",
        make=layer_adaptive,
        does="prunes over all layers by LAMP: the squared weight over the sum of squares in its layer not below it",
        family="magnitude",
        granularity="weight",
        gains="weights",
        source="Lee et al. 2021, arXiv 2010.07611",
    ),
)
