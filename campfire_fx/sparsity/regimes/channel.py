"""Coupled channels: whole channels die together, everywhere, until the slim network meets a target."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from campfire_fx.sparsity.coupled_channels import CoupledChannels, channel_method, channels
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.regimes.campfire import combined

__all__ = ["CoupledChannels", "channel", "channel_combined"]


def channel(
    target: Any = None,
    score: Any = None,
    scope: str | None = None,
    at_least: float | None = None,
    round_to: int | None = None,
    soft: bool | None = None,
    *,
    threshold: float | None = None,
) -> Regime:
    """Remove whole channels, in all layers that they couple, until the slim network meets a target.

    Args:
        target: {"macs": 0.5} and the like: see `Target`; None: `sparsity` is the share of channels that goes.
        score: a name in `SCORES`, or a `ChannelScore`; None: "flow".
        scope: "global" ranks groups over all sets, "each set" takes the same share of each. None: "global" for a
            target, "each set" for a sparsity.
        at_least: share (up to 1.0) or count (a whole number) of each set's channels that stays; None: 0.15.
        round_to: every set keeps a multiple of so many channels.
        soft: channels that are chosen train on until the era ends.
        threshold: channels go whose score does not exceed it, however many they are, in the place of a count.

    Raises:
        RegimeError: one of them is out of range.
    """
    wish = {"target": target, "score": score, "scope": scope, "at_least": at_least, "round_to": round_to}
    return channels("channel", soft=soft, threshold=threshold, **wish)


def channel_combined(
    target: Any = None,
    score: Any = None,
    scope: str | None = None,
    at_least: float | None = None,
    round_to: int | None = None,
    fraction: float = 0.8,
) -> Regime:
    """Remove whole channels to a target, and windows and kernels in what survives to the sparsity, in one era.

    Every layer meets its sparsity, with the weights of its dead channels counted as zeros. The arguments are those of
    `channel` and `combined`; without a target half of the sparsity is the share of channels that goes.

    Raises:
        RegimeError: one of them is out of range.
    """
    inside = combined(fraction)
    wish = {"score": score, "scope": scope, "at_least": at_least, "round_to": round_to}
    asked = replace(channel_method("channel-combined", target=target, **wish), share=0.5)
    return Regime("channel-combined", inside.spatial, inside.pointwise, inside.linear, update=asked)


ENTRIES = (
    RegimeEntry(
        name="channel",
        make=channel,
        does="removes whole channels, in all layers that they couple, to a sparsity or a target in MACs, size or time",
        family="channels",
        granularity="coupled channel",
        gains="channels",
        source="built here; scores by Li 2017, Liu 2017, He 2019 and Molchanov 2019",
    ),
    RegimeEntry(
        name="channel-combined",
        make=channel_combined,
        does="`channel` to a target, and `combined` in the channels that stay until each layer meets the sparsity",
        family="channels",
        granularity="coupled channel, then kernels",
        gains="channels",
        source="built here, on `channel` and `combined`",
    ),
)
