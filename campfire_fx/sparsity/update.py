"""Updates: how the mask a rule proposes becomes the next mask, and how weights change places between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeGuard

from torch import Tensor

Update = Callable[[Tensor, Tensor], Tensor]


def monotone(mask: Tensor, proposal: Tensor) -> Tensor:
    """Keep what both keep: once zero, always zero (Campfire, Algorithm 2)."""
    return mask & proposal


@dataclass(frozen=True, slots=True)
class Moment:
    """When an exchange takes place.

    Attributes:
        progress: how much of the era is over, in [0, 1); known to the step where steps are counted (`attach` with
            steps_per_epoch), else to the epoch.
        step: optimizer steps taken so far, for methods that draw at random.
    """

    progress: float
    step: int


class Exchange(Protocol):
    """An update that also moves the mask within the era, every `period` steps: some weights die, others grow.

    It is an `Update` too, which says how the mask is taken up that the rule proposes. A frozen record.
    """

    @property
    def period(self) -> int:
        """Optimizer steps between two exchanges, from 1 up; the first takes place after so many."""

    def exchange(self, weight: Tensor, gradient: Tensor, mask: Tensor, moment: Moment) -> Tensor:
        """Return the next mask, (K, C, P) bool.

        Args:
            weight: (K, C, P), zero under the mask.
            gradient: of the loss, (K, C, P), under the mask too, as the optimizer finds it: accumulated, averaged
                over processes, unscaled, clipped. Every process has the same.
            mask: (K, C, P) bool.
            moment: when this is.
        """


def exchanges(update: object) -> TypeGuard[Exchange]:
    """Say whether an update is an `Exchange`; asked in every step, so it looks no further than for the method."""
    return hasattr(update, "exchange")
