"""Rewrite movement: operations that name sizes or places of channels get those that are left of them."""

from __future__ import annotations

from torch import fx

from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.plan import Repair
from campfire_fx.base.location import place
from campfire_fx.passes.runner import Result, graph_pass, removal_decided


@graph_pass(requires=(removal_decided,))
def rewrite_movement(facts: Facts) -> Result:
    """Carry out the edits that were decided with the removal; the channels themselves are cut later."""
    replaced: dict[fx.Node, fx.Node] = {}
    edits = facts.decided.edits
    done = tuple(Repair(place(edit.node), edit.action, edit.reason) for edit in edits)
    for edit in edits:
        edit.apply(replaced)
    return Result(bool(edits), done)
