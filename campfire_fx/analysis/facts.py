"""A captured model with what is known of it: labels, constants, what is alive, and what a shrink has decided."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.constants import Constants, find_constants
from campfire_fx.analysis.labelling import Labelling, label
from campfire_fx.analysis.liveness import Liveness, find_live
from campfire_fx.analysis.removal import Removal, decide


@dataclass(eq=False)
class Facts:
    """The facts about one state of the graphs, each found when it is first asked for; an edit asks for new ones.

    `removal`: what was decided. While it is carried out, the facts stay those of the graphs that it was decided on.
    """

    captured: Captured
    removal: Removal | None = None

    @cached_property
    def labelling(self) -> Labelling:
        """Every graph run on labels."""
        return label(self.captured)

    @cached_property
    def constants(self) -> Constants:
        """Every graph run on NaN."""
        return find_constants(self.labelling)

    @cached_property
    def live(self) -> Liveness:
        """What must stay whatever is wished for."""
        return find_live(self.labelling, self.constants)

    @property
    def decided(self) -> Removal:
        """What was decided; an error where nothing was."""
        assert self.removal is not None, "nothing was decided"
        return self.removal

    def decide(self, round_to: int = 1) -> None:
        """Decide what stays, counts in multiples of `round_to`. Raises ShrinkError."""
        live = self.live if round_to == 1 else find_live(self.labelling, self.constants, round_to=round_to)
        self.removal = decide(self.labelling, self.constants, live, round_to)

    def after_change(self) -> Facts:
        """Return the facts to go on with after an edit of the graphs."""
        return Facts(self.captured) if self.removal is None else self
