"""Lottery tickets (Frankle and Carbin 2019, arXiv 1803.03635): train, prune, go back to early weights, repeat."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain_fields
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.gradual import Gradual
from campfire_fx.sparsity.granularity import ELEMENT
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.schedule import Rounds
from campfire_fx.sparsity.scope import over_layers
from campfire_fx.sparsity.score import largest
from campfire_fx.sparsity.selection import Cut


@dataclass(frozen=True, slots=True)
class Iterative(Gradual):
    """Gradual pruning whose user brings weights back to an epoch each time that masks have moved: see `Rewinding`."""

    name = "iterative"
    to: int = 0

    def __post_init__(self) -> None:
        plain_fields(self)
        if type(self.to) is not int or self.to < 0:
            raise RegimeError(f"rewind_to: {self.to!r} is no epoch. Give 0 for the initial weights, or a later one.")

    @property
    def rewinds_to(self) -> int | None:
        """See `Method`."""
        return self.to


def lottery_ticket(rounds: int = 5, rewind_to: int = 0) -> Regime:
    """Prune the smallest weights of all layers in rounds, and train what is left from early weights on each time.

    Each round is an equal part of the era and ends with the same share of what is left removed (section 1, iterative
    pruning); the epochs after the era train the ticket. `campfire_fx.Rewinding` brings the weights back, and so does
    `campfire-fx train`. What is open: the paper prunes the output layer at half the rate, here all layers are ranked
    together by magnitude, as for its deeper networks; rewinding to a later epoch is Frankle et al. 2019, 1903.01611.

    Args:
        rounds: of pruning.
        rewind_to: the epoch whose weights, as it began, training goes back to; 0: the initial ones.

    Raises:
        RegimeError: there is no round, or the epoch is not a whole number from 0 up.
    """
    cut, schedule = Cut(ELEMENT, largest, over_layers()), partial(Rounds, rounds=rounds)
    schedule(0, 1)  # says what is wrong with the rounds
    return Regime("lottery-ticket", cut, cut, cut, schedule=schedule, update=Iterative(to=rewind_to))


ENTRIES = (
    RegimeEntry(
        name="lottery-ticket",
        make=lottery_ticket,
        does="in rounds: prunes the smallest weights of all layers and rewinds the others to early values",
        family="early",
        granularity="weight",
        gains="weights",
        source="Frankle and Carbin 2019, arXiv 1803.03635, iterative pruning",
        needs=("several trainings",),
    ),
)
