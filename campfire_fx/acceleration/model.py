"""What `accelerate` gives back: a module that computes, says what was measured, and cannot be trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from campfire_fx.analysis.plan import Verification
from campfire_fx.base.errors import AccelerateError
from campfire_fx.cost.acceleration_record import Acceleration
from campfire_fx.layers.dressing import Dress

if TYPE_CHECKING:
    from campfire_fx.report.acceleration import AccelerationReport


class AcceleratedModel(Dress):
    """A model returned by `accelerate`: called like the one given, at any size and batch; it cannot be trained.

    Attributes:
        acceleration: the times of each layer in each form, and of the whole network, and what was chosen.
        verification: how far its outputs are from those of the model given, or None if not asked for.
        example: (args, kwargs) on which it was timed; the first, where there were several.
    """

    acceleration: Acceleration
    verification: Verification | None
    example: tuple[tuple[Any, ...], dict[str, Any]]

    def train(self, mode: bool = True) -> AcceleratedModel:
        """Stay in evaluation mode.

        Raises:
            AccelerateError: training mode is asked for.
        """
        if mode:
            raise AccelerateError(
                "An accelerated model cannot be trained: its weights are packed. "
                "Train the slim model, and accelerate it again."
            )
        return super().train(mode)

    def report(self) -> AccelerationReport:
        """Return a row per layer with its times and form, and the whole network before and after; `print` it."""
        from campfire_fx.report.acceleration import acceleration_report  # slow to load

        return acceleration_report(self.acceleration, self.verification)
