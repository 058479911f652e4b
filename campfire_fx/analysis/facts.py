"""What is known of a captured model before anything is decided: labels, constants, and what is alive."""

from __future__ import annotations

from dataclasses import dataclass, field

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.constants import Constants, find_constants
from campfire_fx.analysis.labelling import Labelling, label
from campfire_fx.analysis.liveness import Liveness, find_live


@dataclass(slots=True, eq=False)
class Analysis:
    """The facts about one state of the graphs; an edit of them asks for another analysis."""

    labelling: Labelling
    constants: Constants
    _live: Liveness | None = field(default=None)

    def live(self) -> Liveness:
        """Return what must stay whatever is wished for; found at the first call."""
        if self._live is None:
            self._live = find_live(self.labelling, self.constants)
        return self._live


def analyse(captured: Captured) -> Analysis:
    """Run every graph on labels, then on NaN."""
    labelling = label(captured)
    return Analysis(labelling, find_constants(labelling))
