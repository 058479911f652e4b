"""Network Slimming (Liu et al. 2017, arXiv 1708.06519): channels whose BatchNorm scale an L1 penalty has made small."""

from __future__ import annotations

from typing import Any

from campfire_fx.sparsity.channels.choice import GLOBAL
from campfire_fx.sparsity.coupled_channels import channels
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.penalty import GradientPenalty, ProximalPenalty
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.slices import NormScales


def network_slimming(
    target: Any = None, threshold: float | None = None, at_least: float | None = None, strength: float = 1e-4
) -> Regime:
    """Draw the scales of norms to zero by `strength` * sum of |gamma|; those smallest in the whole network go.

    The gradient strength * sign(gamma) is added in each step until the era ends (section 3; 1e-4 is the default of the
    authors' code). Then, or over the era, the share `sparsity` of all channels goes whose scales are the smallest. The
    authors prune once, after training: `era=(n, n)` for the epoch n.

    Left open: channels of a residual stream have several norms, of which the mean counts here (the authors leave
    streams whole); channels that no norm scales go last; each set keeps a channel at least. Only scales of channels
    that can go are drawn.

    Raises:
        RegimeError: one of the settings is out of range.
    """
    penalty = GradientPenalty(strength, NormScales())
    least = 1 if at_least is None else at_least
    wish = {"target": target, "threshold": threshold, "at_least": least, "scope": GLOBAL, "score": "mean_scale"}
    return channels("network-slimming", penalty=penalty, **wish)


def sparse_structure(threshold: float = 0.0, at_least: float | None = None, strength: float = 1e-4) -> Regime:
    """Draw scales of channels to exactly zero by a proximal step; those that are zero go (Huang and Wang 2018).

    Data-Driven Sparse Structure Selection (arXiv 1707.01213), for neurons: after each step the scales are thresholded,
    S(z, rate * strength) with S(z, a) = sign(z) * max(0, |z| - a), eq. 10 by the authors' code. How many channels go is
    not asked for: `sparsity()` says what it has come to.

    Left open: the paper's factors are parameters of their own, here norms' scales; its momentum of thresholded steps
    (eq. 11 and 12) is the optimizer's here, the same where that has none. Factors of residual blocks and of groups are
    left out: no mask takes out a block. The strength is a choice made here: it depends on the network.

    Raises:
        RegimeError: one of the settings is out of range.
    """
    penalty = ProximalPenalty(strength, NormScales())
    least = 1 if at_least is None else at_least
    wish = {"threshold": threshold, "at_least": least, "scope": GLOBAL, "score": "mean_scale"}
    return channels("sparse-structure", penalty=penalty, **wish)


ENTRIES = (
    RegimeEntry(
        name="network-slimming",
        make=network_slimming,
        does="L1 penalty on BatchNorm scales; removes the channels with the smallest scales of the whole network",
        family="penalty",
        granularity="coupled channel",
        gains="channels",
        source="Liu et al. 2017, 1708.06519, section 3",
        needs=("epochs after",),
    ),
    RegimeEntry(
        name="sparse-structure",
        make=sparse_structure,
        does="proximal L1 on BatchNorm scales drives some to exactly zero; removes those channels, however many",
        family="penalty",
        granularity="coupled channel",
        gains="channels",
        source="Huang and Wang 2018, 1707.01213, for neurons",
    ),
)
