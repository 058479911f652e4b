"""How many channels of each layer are left after a shrink."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from campfire_fx.base.errors import ReportError
from campfire_fx.report.pictures.canvas import (
    GREY,
    PALE,
    SLIM,
    figure,
    label,
    layer_rows,
    legend,
    rows_height,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from campfire_fx.analysis.plan import LayerChange


def channel_survival(
    layers: Sequence[LayerChange],
    *,
    side: Literal["outputs", "inputs"] = "outputs",
    title: str = "Channels through the network",
) -> Figure:
    """Draw two bars in one for each layer, input first: its channels before the shrink, and those left after it.

    Args:
        layers: of a plan, `slim.plan.layers`.
        side: the channels that layers write, or those that they read.
        title: above the picture.

    Raises:
        ReportError: there is no layer, or matplotlib is not installed.
    """
    if not layers:
        raise ReportError("Channel survival: the plan holds no layer. Give that of a shrunk model.")
    before, after = zip(*(getattr(layer, side) for layer in layers), strict=True)
    verb = {"outputs": "written", "inputs": "read"}[side]
    note = f"{sum(after):,} of {sum(before):,} channels that layers have {verb} are left"
    drawn, axes = figure(rows_height(len(layers)), title=title, note=note)
    rows = range(len(layers))
    axes.barh(rows, before, height=0.72, color=PALE, edgecolor=GREY, linewidth=0.6, label="before")
    axes.barh(rows, after, height=0.72, color=SLIM, label="after")
    told = [f"{left:,} of {was:,}" if left != was else f"all {was:,}" for was, left in zip(before, after, strict=True)]
    places = [was + 0.012 * max(before) for was in before]
    layer_rows(axes, [layer.name for layer in layers], list(zip(places, told, strict=True)))
    axes.set_xlim(0, 1.4 * max(before))
    whole_numbers(axes)
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    label(axes, f"channels {verb} by the layer", "layers, from input to output")
    legend(axes, below=True)
    return drawn
