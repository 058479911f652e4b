"""Methods that are the regime `channel` with one score each, under the names by which people know them."""

from __future__ import annotations

from typing import Any

from campfire_fx.sparsity.channels.choice import EVEN
from campfire_fx.sparsity.coupled_channels import channels
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.schedule import Constant


def l1_channels(target: Any = None, at_least: float | None = None, round_to: int | None = None) -> Regime:
    """Remove the filters of smallest L1 norm, the same share of each set (Li et al. 2017, arXiv 1608.08710, section 3).

    The paper prunes once and trains on (`era=(n, n)`), and chooses the shares of layers by hand (`overrides`).
    """
    return channels("l1-channels", score="l1", scope=EVEN, target=target, at_least=at_least, round_to=round_to)


def soft_filters(target: Any = None, at_least: float | None = None, round_to: int | None = None) -> Regime:
    """Set the filters of smallest L2 norm to zero as each epoch of the era begins, and let them train on (SFP).

    He et al. 2018, arXiv 1808.06866, Algorithm 1: the same share of each set in every epoch; when the era ends they go.
    """
    wish = {"target": target, "at_least": at_least, "round_to": round_to}
    return channels("sfp", score="l2", scope=EVEN, soft=True, schedule=Constant, **wish)


def geometric_median(
    target: Any = None, at_least: float | None = None, round_to: int | None = None, soft: bool | None = None
) -> Regime:
    """Remove the filters that are nearest to all others of their layer, the same share of each set (FPGM).

    He et al. 2019, arXiv 1811.00250, eq. 6: the smallest sum of distances. `soft=True` lets them train on in the era.
    """
    wish = {"target": target, "at_least": at_least, "round_to": round_to, "soft": soft}
    return channels("fpgm", score="fpgm", scope=EVEN, **wish)


def taylor_channels(
    target: Any = None, scope: str | None = None, at_least: float | None = None, round_to: int | None = None
) -> Regime:
    """Remove the channels whose loss changes least without them, to first order (Molchanov et al. 2019).

    arXiv 1906.10771: (gate * dL/dgate)^2 for a gate on each channel, averaged over steps. The paper ranks all channels
    of the network, as a target does here, and removes a number of them every so many steps; here it is every epoch.
    """
    wish = {"target": target, "scope": scope, "at_least": at_least, "round_to": round_to}
    return channels("taylor", score="taylor", **wish)


ENTRIES = (
    RegimeEntry(
        name="l1-channels",
        make=l1_channels,
        does="removes the filters with the smallest L1 norm, the same share of each set of coupled channels",
        family="channels",
        granularity="coupled channel",
        gains="channels",
        source="Li et al. 2017, 1608.08710, section 3",
    ),
    RegimeEntry(
        name="sfp",
        make=soft_filters,
        does="zeroes the filters with the smallest L2 norm at each epoch, lets them train on; removes them at the end",
        family="channels",
        granularity="coupled channel",
        gains="channels",
        source="He et al. 2018, 1808.06866",
    ),
    RegimeEntry(
        name="fpgm",
        make=geometric_median,
        does="removes the filters closest to all others of their layer, the same share of each coupled set",
        family="channels",
        granularity="coupled channel",
        gains="channels",
        source="He et al. 2019, 1811.00250",
    ),
    RegimeEntry(
        name="taylor",
        make=taylor_channels,
        does="removes the channels that change the loss least, by a first-order estimate averaged over steps",
        family="channels",
        granularity="coupled channel",
        gains="channels",
        source="Molchanov et al. 2019, 1906.10771",
        needs=("gradients",),
    ),
)
