"""How ADMM converged: both residuals over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from campfire_fx.base.errors import ReportError
from campfire_fx.report.pictures.canvas import INK, SOFT, figure, legend, over_epochs

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Residuals:
    """One update of ADMM, summed over the layers.

    Attributes:
        epoch: that it was made at the beginning of, counted from 0.
        primal: ||W - Z||^2, of the weights and the nearest sparse ones.
        dual: ||Z' - Z||^2, of the sparse ones now and before; None at the first.
    """

    epoch: int
    primal: float
    dual: float | None = None


def residual_course(
    updates: Sequence[Residuals], *, era: tuple[int, int] | None = None, title: str = "Convergence of ADMM"
) -> Figure:
    """Draw the primal and the dual residual over the epochs, on a logarithmic axis; zeros are left out.

    Args:
        updates: in order.
        era: first and last epoch of the pruning era, shaded.
        title: above the picture.

    Raises:
        ReportError: there is no update, or matplotlib is not installed.
    """
    if not updates:
        raise ReportError("Residual curve: no update of ADMM was recorded. Give at least one.")
    drawn, axes = figure(3.8, title=title, note="squared distances, summed over the pruned layers")
    over_epochs(axes, era, "squared distance")
    lines = (
        ("primal: weights to nearest sparse", [u.primal for u in updates], INK, "o", "-"),
        ("dual: sparse to those before", [u.dual for u in updates], SOFT, "s", "--"),
    )
    for name, values, colour, marker, style in lines:
        known = [(u.epoch, value) for u, value in zip(updates, values, strict=True) if value]
        if known:
            axes.plot(
                *zip(*known, strict=True), style, label=name, color=colour, marker=marker, markersize=3.5, linewidth=1.5
            )
            axes.set_yscale("log")
    legend(axes)
    return drawn
