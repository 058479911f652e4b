"""Deep Compression's pruning (Han et al. 2015, arXiv 1506.02626 and 1510.00149): thresholds by standard deviations."""

from __future__ import annotations

from functools import partial

from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.granularity import ELEMENT
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.schedule import Rounds
from campfire_fx.sparsity.scope import by_deviation, over_layers
from campfire_fx.sparsity.score import largest
from campfire_fx.sparsity.selection import Cut


def deep_compression(rounds: int = 3) -> Regime:
    """Remove the weights below a quality parameter times the standard deviation of their layer, in rounds; train on.

    The parameter is one for all layers, and is what it must be for all layers together to reach the sparsity; what is
    left keeps its weights. The epochs between two rounds, and those after the era, are the paper's retraining. What is
    open: the paper sets its parameter by hand, finds layers that are sensitive by trials (here: `overrides`), lowers
    the rate of dropout, and trains with L2 decay; deviations are taken from zero, over the weights that are left.

    Raises:
        RegimeError: there is no round.
    """
    cut, schedule = Cut(ELEMENT, largest, over_layers(by_deviation)), partial(Rounds, rounds=rounds)
    schedule(0, 1)  # says what is wrong with the rounds
    return Regime("deep-compression", spatial=cut, pointwise=cut, linear=cut, schedule=schedule)


ENTRIES = (
    RegimeEntry(
        name="deep-compression",
        make=deep_compression,
        does="in rounds: prunes weights below a multiple of their layer's standard deviation, then trains on",
        family="magnitude",
        granularity="weight",
        gains="weights",
        source="Han et al. 2015, arXiv 1506.02626, and 2016, arXiv 1510.00149, section 2",
        needs=("epochs after",),
    ),
)
