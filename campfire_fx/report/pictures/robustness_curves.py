"""Accuracy under attack, as Campfire's Table 6 lists it: one line for each network, over the size of the step."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from campfire_fx.base.errors import ReportError
from campfire_fx.report.pictures.canvas import PALE, figure, label, legend, looks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from campfire_fx.report.attack_record import AttackRecord

_GAP = 0.07  # of the axis: what a number takes
_UNITS = {"raw": "FGSM step ε (on images from 0 to 1)", "normalised": "FGSM step ε (standard deviations)"}


def robustness_curves(record: AttackRecord, *, title: str = "Accuracy under FGSM") -> Figure:
    """Draw the accuracy of each network over epsilon, with its 95 % interval (Wilson) as a band.

    Args:
        record: from `robustness.attack`.
        title: above the picture.

    Raises:
        ReportError: the record holds no network, or matplotlib is not installed.
    """
    if not record.curves:
        raise ReportError("Attack: the record holds no network. Attack at least one.")
    note = f"{record.images:,} images, each network attacked by its own gradient; bands: 95 % intervals"
    drawn, axes = figure(4.4, title=title, note=note)
    for look, curve in zip(looks([curve.name for curve in record.curves]), record.curves, strict=True):
        shares = record.accuracy(curve)
        axes.plot(
            record.epsilons,
            [100 * share.value for share in shares],
            label=curve.name,
            markersize=5,
            linewidth=1.6,
            **look,
        )
        low, high = ([100 * getattr(share, end) for share in shares] for end in ("low", "high"))
        axes.fill_between(record.epsilons, low, high, color=look["color"], alpha=0.1, linewidth=0)
    axes.set_ylim(0, 102)
    gaps = [b - a for a, b in pairwise(record.epsilons)]
    if gaps and min(gaps) > _GAP * record.epsilons[-1]:
        axes.set_xticks(record.epsilons)  # else they would be written over each other
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    label(axes, _UNITS.get(record.space, record.space), "images still classified correctly (%)")
    legend(axes)
    return drawn
