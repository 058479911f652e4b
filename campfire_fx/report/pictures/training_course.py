"""How training went: loss, and accuracy on the validation images, over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from campfire_fx.base.errors import ReportError
from campfire_fx.report.pictures.canvas import figure, legend, looks, over_epochs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_AXES = {"loss": "training loss (nats per image)", "accuracy": "validation accuracy (%)"}


def training_course(
    networks: Mapping[str, Sequence[tuple[int, float]]],
    *,
    what: Literal["loss", "accuracy"] = "accuracy",
    era: tuple[int, int] | None = None,
    title: str = "",
) -> Figure:
    """Draw one line for each network: its loss, or its accuracy on the validation images, over the epochs.

    Args:
        networks: by name, (epoch, value); a loss is the mean cross-entropy, an accuracy a share in [0, 1].
        what: which of both the values are.
        era: first and last epoch of the pruning era, shaded.
        title: above the picture.

    Raises:
        ReportError: there is nothing to draw, or matplotlib is not installed.
    """
    if not any(networks.values()):
        raise ReportError(f"Training curve: no {what} was recorded. Give at least one epoch.")
    drawn, axes = figure(3.8, title=title or {"loss": "Training loss", "accuracy": "Validation accuracy"}[what])
    scale = 1 if what == "loss" else 100
    over_epochs(axes, era, _AXES[what])
    for look, (name, values) in zip(looks(list(networks)), networks.items(), strict=True):
        axes.plot(
            [epoch for epoch, _ in values],
            [scale * value for _, value in values],
            label=name,
            markersize=3.5,
            linewidth=1.5,
            **look,
        )
    legend(axes)
    return drawn
