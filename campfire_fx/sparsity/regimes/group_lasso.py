"""Group lasso on filters and input channels: SSL (Wen et al. 2016) and PruneTrain (Lym et al. 2019)."""

from __future__ import annotations

from typing import Any

from campfire_fx.sparsity.channels.choice import GLOBAL
from campfire_fx.sparsity.coupled_channels import channels
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.penalty import GradientPenalty
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.slices import ChannelsOfLayers


def ssl(
    target: Any = None,
    threshold: float | None = None,
    scope: str | None = None,
    at_least: float | None = None,
    round_to: int | None = None,
    strength: float = 1e-3,
) -> Regime:
    """Draw filters and input channels to zero by group lasso, and remove those that have become the smallest.

    Structured Sparsity Learning (arXiv 1608.03665): strength * sum over layers of (sum over filters of ||W[k]||_2 + sum
    over input channels of ||W[:, c]||_2), whose gradient is added in each step until the era ends. A coupled channel
    goes by the L2 norms of its filters, to a target, a sparsity, or a threshold on their sum.

    Left open: the paper has one strength for filters and one for channels, here it is one for both, and its value a
    choice made here; layers, positions in kernels and depth, its other structures, are not drawn. What has become
    zero in one layer only, while others still use the channel, stays.

    Raises:
        RegimeError: one of the settings is out of range.
    """
    wish = {"target": target, "threshold": threshold, "scope": scope, "at_least": at_least, "round_to": round_to}
    return channels("ssl", penalty=GradientPenalty(strength, ChannelsOfLayers()), score="l2", **wish)


def prune_train(
    threshold: float = 1e-4, at_least: float | None = None, round_to: int | None = None, strength: float = 0.5
) -> Regime:
    """Draw channels to zero by group lasso from the start, and remove every few epochs those that are (PruneTrain).

    arXiv 1901.09290 and the authors' code: the penalty of `ssl`, its strength set once so that the penalty is a part r
    of the first loss (r = 0.2: a quarter of the cross entropy). `strength` is here what the penalty is worth at first:
    give r / (1 - r) times the loss of an untrained network, which is ln(classes); 0.5 is a quarter of 2, for 7 or 8 of
    them. As an epoch of the era begins, a channel goes if no weight of its filters and of its input channels is above
    the threshold (their union). `reconfigure` makes the network smaller, as the paper does every 5 or 10 epochs.

    Left open: channel gating (`reconfigure(residual="gate")`) chooses its channels by the same union; each set keeps a
    channel at least, where the paper drops a branch that is empty.

    Raises:
        RegimeError: one of the settings is out of range.
    """
    penalty = GradientPenalty(strength, ChannelsOfLayers(), relative=True)
    least = 1 if at_least is None else at_least
    wish = {"threshold": threshold, "at_least": least, "round_to": round_to, "scope": GLOBAL, "score": "largest"}
    return channels("prune-train", penalty=penalty, **wish)


ENTRIES = (
    RegimeEntry(
        name="ssl",
        make=ssl,
        does="group lasso on filters and input channels; removes the channels with the smallest filters",
        family="penalty",
        granularity="coupled channel",
        gains="channels",
        source="Wen et al. 2016, 1608.03665, for filters and channels",
        needs=("epochs after",),
    ),
    RegimeEntry(
        name="prune-train",
        make=prune_train,
        does="group lasso from the start; removes channels below a threshold; `reconfigure` cuts them out on the way",
        family="penalty",
        granularity="coupled channel",
        gains="channels",
        source="Lym et al. 2019, 1901.09290",
    ),
)
