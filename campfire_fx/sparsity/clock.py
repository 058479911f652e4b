"""The clock of a sparse training: epochs, steps, and whether masks wait or are final."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Clock:
    """How far a training has come; saved in the `state_dict`, but for `steps_per_epoch`, which belongs to the loader.

    Attributes:
        epoch: the present epoch, from 0.
        step: optimizer steps taken in this epoch.
        updates: optimizer steps taken in all.
        frozen: `finalize` was called: every layer is due its final sparsity.
        late: masks move after the first update of an epoch (Campfire, Algorithm 2), not before it.
        waiting: an epoch has begun, and its masks wait for its first update.
        steps_per_epoch: how many steps make an epoch; None: the epoch is set by hand.
    """

    epoch: int = 0
    step: int = 0
    updates: int = 0
    frozen: bool = False
    late: bool = False
    waiting: bool = False
    steps_per_epoch: int | None = None

    @property
    def steps_of_an_epoch(self) -> float | None:
        """The optimizer steps of an epoch, or of a mean one so far where epochs are set by hand; None: not known."""
        return self.steps_per_epoch or (self.updates / self.epoch if self.epoch else None) or None

    def tick(self) -> bool:
        """Count one step of this epoch; return whether a new epoch has begun."""
        if self.steps_per_epoch is None:
            return False
        self.step += 1
        if self.step < self.steps_per_epoch:
            return False
        self.step = 0
        self.epoch += 1
        return True
