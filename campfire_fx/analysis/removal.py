"""What goes: the decision of a shrink, and what was cut so far to carry it out."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import torch

from campfire_fx.analysis.after_removal import AfterRemoval, Unmovable
from campfire_fx.analysis.compact import Uneven
from campfire_fx.analysis.constants import Constants
from campfire_fx.analysis.edits.cuts import Cuts
from campfire_fx.analysis.edits.movement import plan_rewrites
from campfire_fx.analysis.edits.plan import Edit
from campfire_fx.analysis.labelling import Labelling
from campfire_fx.analysis.liveness import Liveness, find_live
from campfire_fx.analysis.rules.structure import Pin
from campfire_fx.base.errors import ShrinkError
from campfire_fx.base.location import place

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Removal:
    """What stays, the graphs as they will be with the edits for it, and what was found pinned on the way.

    `cuts`: what has been cut so far.
    """

    live: Liveness
    graphs: list[AfterRemoval]
    pins: list[Pin] = field(default_factory=list)
    cuts: Cuts = field(default_factory=Cuts)

    @property
    def edits(self) -> list[Edit]:
        """What has to change in the graphs."""
        return [edit for after in self.graphs for edit in after.edits]


def decide(labelling: Labelling, constants: Constants, live: Liveness, round_to: int) -> Removal:
    """Find the rewrites for what stays; what cannot be cut out after all is kept, and the search repeated."""
    extra = torch.zeros(0)
    pins: list[Pin] = []
    while True:
        try:
            return Removal(live, plan_rewrites(labelling, live), pins)
        except (Unmovable, Uneven) as stuck:
            where, reason = ("?", "uneven") if isinstance(stuck, Uneven) else (place(stuck.node), stuck.reason)
            dead = stuck.labels[~live.alive[live.roots[stuck.labels.long()]]]
            if not dead.numel():
                raise ShrinkError(
                    f"Shrinking cannot rewrite {where}: {reason}, although no channel of it goes. Please report this "
                    "model; as a workaround, put the operation into a submodule with a forward hook, which keeps it "
                    "whole."
                ) from None
            pins.append(Pin(where, dead.unique().numel(), reason))
            logger.info("kept %d channels at %s: %s", pins[-1].channels, where, reason)
            extra = torch.cat([extra, dead.double()])
        live = find_live(labelling, constants, round_to=round_to, extra=extra)
