"""How sparse each layer is, and in what form: dead kernels, or zeros inside live ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campfire_fx.base.errors import ReportError
from campfire_fx.report.pictures.canvas import (
    DEAD,
    INK,
    PALE,
    PAPER,
    ZERO,
    figure,
    label,
    layer_rows,
    legend,
    rows_height,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from campfire_fx.sparsity.record import SparsityRecord


def layer_sparsity(record: SparsityRecord, *, title: str = "Sparsity of each layer") -> Figure:
    """Draw a bar for each layer, input first: weights in dead kernels, other zeros, and the layer's target.

    Layers that stay dense by the regime's rules are there, too, with "dense" in place of a bar.

    Args:
        record: from `SparseModel.sparsity()`.
        title: above the picture.

    Raises:
        ReportError: the record holds no layer, or matplotlib is not installed.
    """
    layers = record.layers
    if not layers:
        raise ReportError("Layer sparsity: the record holds no layer. Give that of a model with masked layers.")
    note = f"{record.regime}: {100 * record.true:.1f} % of the weights of the pruned layers are masked"
    drawn, axes = figure(rows_height(len(layers)), title=title, note=note)
    rows = range(len(layers))
    dead = [100 * layer.dead_kernels / layer.kernels for layer in layers]
    inside = [100 * layer.true - share for layer, share in zip(layers, dead, strict=True)]
    axes.barh(rows, dead, height=0.72, color=DEAD, label="in dead kernels")
    axes.barh(rows, inside, left=dead, height=0.72, color=ZERO, hatch="///", edgecolor=PAPER, linewidth=0,
              label="zeros inside live kernels")  # fmt: skip
    followed = [(100 * layer.target, row) for row, layer in zip(rows, layers, strict=True) if not layer.reason]
    if followed:
        due, where = zip(*followed, strict=True)
        axes.scatter(due, where, marker="|", s=90, color=INK, linewidths=1.8, label="target", zorder=3)
    told = [f"{100 * layer.true:.1f} %" if layer.zeros else "dense" for layer in layers]
    places = [100 * max(layer.true, 0.0 if layer.reason else layer.target) + 1.2 for layer in layers]
    layer_rows(axes, [layer.name for layer in layers], list(zip(places, told, strict=True)))
    axes.set_xlim(0, 135)
    axes.set_xticks((0, 50, 100))
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    label(axes, "masked share of the layer's weights (%)", "layers, from input to output")
    legend(axes, below=True)
    return drawn
