"""How sparsity rose over training: what was due, and what was there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from campfire_fx.base.errors import ReportError
from campfire_fx.report.pictures.canvas import DEAD, INK, PALE, SMALL, SPARSE, ZERO, figure, legend, over_epochs

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class SparsityPoint:
    """The sparsity of one epoch, as shares in [0, 1] of the weights of the pruned layers.

    Attributes:
        epoch: counted from 0.
        target: due in it.
        true: there in it; None where it was not recorded.
        kernels: share of weights in kernels that are dead; None where it was not recorded.
        window: share of zeros inside the other kernels; None where it was not recorded.
    """

    epoch: int
    target: float
    true: float | None = None
    kernels: float | None = None
    window: float | None = None


def sparsity_course(
    moments: Sequence[SparsityPoint], *, era: tuple[int, int] | None = None, title: str = "Sparsity over training"
) -> Figure:
    """Draw target and true sparsity over the epochs, and how it divides into dead kernels and zeros in live ones.

    Args:
        moments: one for each epoch, in order.
        era: first and last epoch of the pruning era, shaded.
        title: above the picture.

    Raises:
        ReportError: there is no moment, or matplotlib is not installed.
    """
    if not moments:
        raise ReportError("Sparsity curve: no epoch was recorded. Give at least one moment.")
    drawn, axes = figure(4.5, title=title, note="share of the weights of the pruned layers that is masked")
    epochs = [moment.epoch for moment in moments]
    over_epochs(axes, era, "sparsity (%)")
    if era is not None:
        for epoch, side in zip(era, ("right", "left"), strict=True):
            axes.text(
                epoch, 0.985, f" {epoch} ", transform=axes.get_xaxis_transform(), ha=side, va="top", fontsize=SMALL,
                color=INK,
            )  # fmt: skip
    lines = (
        ("target", [moment.target for moment in moments], PALE, "-", "", 6.0),  # seen behind the next
        ("true", [moment.true for moment in moments], SPARSE, "-", "o", 1.6),
        ("dead kernels", [moment.kernels for moment in moments], DEAD, ":", "", 1.8),
        ("zeros inside live kernels", [moment.window for moment in moments], ZERO, "-.", "", 1.8),
    )
    for name, shares, colour, style, marker, width in lines:
        known = [(epoch, 100 * share) for epoch, share in zip(epochs, shares, strict=True) if share is not None]
        if known:
            axes.plot(
                *zip(*known, strict=True), style, label=name, color=colour, marker=marker, markersize=4, linewidth=width
            )
    axes.set_ylim(0, 100)
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    legend(axes, below=True)
    return drawn
