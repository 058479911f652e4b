"""Drop dead nodes: what computes channels that are gone leaves the graph."""

from __future__ import annotations

from torch import fx

from campfire_fx.analysis.draws import draws
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.labelling import GraphRun
from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.liveness import Liveness
from campfire_fx.analysis.rules import Kind
from campfire_fx.passes.runner import Result, graph_pass, removal_decided


@graph_pass(requires=(removal_decided,))
def drop_dead_nodes(facts: Facts) -> Result:
    """Erase what computes only dead channels, and the movements and sizes that rewriting has left without a reader.

    Other nodes without a reader stay: they may be there for their effect.
    """
    labelling, live, changed = facts.labelling, facts.decided.live, False
    for run in labelling.runs:
        for node in reversed(list(run.graph.nodes)):
            if node.users or node.op in ("output", "placeholder") or not _is_idle(run, node, live):
                continue
            if not draws(run, node, labelling.structure):
                run.graph.erase_node(node)
                changed = True
    return Result(changed)


def _is_idle(run: GraphRun, node: fx.Node, live: Liveness) -> bool:
    value = run.values.get(node)
    if isinstance(value, Labelled) and value.labels.numel() and not live.keeps(value.labels).any():
        return True
    if node.op == "get_attr":
        return True
    rule = run.rule(node)
    return rule.movement or rule.kind is Kind.ASK or _is_number(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, tuple))
