"""Which operations of a graph draw random numbers."""

from __future__ import annotations

from torch import fx

from campfire_fx.analysis.labelling import GraphRun, make_call
from campfire_fx.analysis.rules.barriers import BARRIER
from campfire_fx.analysis.rules.structure import Structure
from campfire_fx.base.draws import is_drawn_by_torch


def draws(run: GraphRun, node: fx.Node, structure: Structure) -> bool:
    """Return whether a call draws random numbers in evaluation: its row says so, else torch's own record of it.

    Such a call stays in the graph though nothing reads it: else later ones would draw other numbers.
    """
    if run.training or node.op not in ("call_function", "call_method"):
        return False
    rule = run.rule(node)
    if rule is BARRIER:
        return is_drawn_by_torch(node.target)
    if isinstance(rule.random, bool):
        return rule.random
    return rule.random(make_call(run, node, structure, lambda _: None, rule))
