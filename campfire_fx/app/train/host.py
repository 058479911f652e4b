"""The process that trains: what it computes on, where it keeps checkpoints and notes, and what may stop it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from campfire_fx.app.train.batches import Share
from campfire_fx.app.train.checkpoint_manager import CheckpointManager
from campfire_fx.app.train.frozen import Frozen
from campfire_fx.app.train.observers import Observer
from campfire_fx.app.train.ranks import ALONE, Ranks
from campfire_fx.app.train.stopping import Stop


@dataclass(frozen=True, slots=True)
class Host:
    """What a training needs beside network, data and recipe.

    Attributes:
        ranks: this process among others.
        workers: processes that read images for this one.
        checkpoints: writes and reads them; None: none are kept.
        observer: is told what happens, in the first process.
        stop: what a signal asks for.
        teacher: the network whose outputs are imitated, where the recipe says so; None: there is none yet.
        frozen: what of the network stays as it is.
    """

    ranks: Ranks = ALONE
    workers: int = 0
    checkpoints: CheckpointManager | None = None
    observer: Observer = field(default_factory=Observer)
    stop: Stop = field(default_factory=Stop)
    teacher: nn.Module | None = None
    frozen: Frozen = field(default_factory=Frozen)

    @property
    def share(self) -> Share:
        """This process's part of every batch."""
        return Share(self.ranks, self.workers)
