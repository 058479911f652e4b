"""Accuracy against size: what each network pays for what it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from campfire_fx.base.errors import ReportError
from campfire_fx.report.intervals import of_share
from campfire_fx.report.numbers import count
from campfire_fx.report.pictures.canvas import PALE, figure, label, legend, looks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDE = 8  # times the smallest size; beyond it sizes are drawn on a logarithmic scale


@dataclass(frozen=True, slots=True)
class Sized:
    """One network: test images classified correctly, of how many, and its size in whatever unit."""

    name: str
    right: int
    images: int
    size: float


def size_tradeoff(
    networks: Sequence[Sized], *, unit: str = "parameters", title: str = "Accuracy against size"
) -> Figure:
    """Draw a point for each network, with the 95 % interval (Wilson) that its number of images allows.

    Args:
        networks: all measured on the same images.
        unit: of their sizes, as the axis names it.
        title: above the picture.

    Raises:
        ReportError: there is no network, a size is not positive, or matplotlib is not installed.
    """
    if not networks or any(network.size <= 0 or network.images <= 0 for network in networks):
        raise ReportError("Accuracy against size: no network, or one without size or images. Give measured ones.")
    note = f"bars: 95 % intervals of {networks[0].images:,} images"
    drawn, axes = figure(4.2, title=title, note=note)
    from matplotlib.transforms import offset_copy

    for i, (network, look) in enumerate(zip(networks, looks([n.name for n in networks]), strict=True)):
        share = of_share(network.right, network.images)
        value, low, high = (100 * part for part in (share.value, share.low, share.high))
        drawn_point = axes.errorbar(
            [network.size],
            [value],
            yerr=[[value - low], [high - value]],
            label=f"{network.name}: {value:.2f} %",
            markersize=8,
            capsize=4,
            linewidth=1.4,
            **look | {"linestyle": "none"},
        )
        # Side by side where sizes are the same: moved on the page, not in the data.
        twins = [j for j, other in enumerate(networks) if other.size == network.size]
        beside = offset_copy(axes.transData, drawn, x=7 * (twins.index(i) - (len(twins) - 1) / 2), units="points")
        for part in drawn_point.get_children():
            part.set_transform(beside)
    sizes = [network.size for network in networks]
    if max(sizes) > _WIDE * min(sizes):
        axes.set_xscale("log")
    else:
        axes.set_xlim(0, 1.08 * max(sizes))
        axes.xaxis.set_major_formatter(lambda value, _: count(value))
        axes.locator_params(axis="x", nbins=5)
    axes.grid(color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    label(axes, unit, "test images classified correctly (%)")
    legend(axes)
    return drawn
