"""The process that trains: what it computes on, where it keeps checkpoints and notes, and what may stop it."""

from __future__ import annotations

from dataclasses import dataclass, field

from campfire_fx.app.train.batches import Share
from campfire_fx.app.train.journal import Journal
from campfire_fx.app.train.keeper import Keeper
from campfire_fx.app.train.ranks import ALONE, Ranks
from campfire_fx.app.train.stopping import Stop


@dataclass(frozen=True, slots=True)
class Host:
    """What a training needs beside network, data and recipe.

    Attributes:
        ranks: this process among others.
        workers: processes that read images for this one.
        keeper: of checkpoints; None: none are kept.
        journal: of the epochs; None: nothing is written.
        stop: what a signal asks for.
    """

    ranks: Ranks = ALONE
    workers: int = 0
    keeper: Keeper | None = None
    journal: Journal | None = None
    stop: Stop = field(default_factory=Stop)

    @property
    def share(self) -> Share:
        """This process's part of every batch."""
        return Share(self.ranks, self.workers)
