"""Drop auxiliary: where the training graph uses layers that the inference graph does not, it goes."""

from __future__ import annotations

from campfire_fx.analysis.facts import Facts
from campfire_fx.passes.drop_unused import used_paths
from campfire_fx.passes.runner import Result, graph_pass, nothing_decided


@graph_pass(requires=(nothing_decided,))
def drop_auxiliary(facts: Facts) -> Result:
    """Let a model train with its inference graph where its training graph uses further layers."""
    changed = False
    for island in facts.captured.islands:
        extra = island.module.train_graph
        if extra is not None and used_paths([extra]) - used_paths([island.module.graph]):
            island.module.train_graph = None
            changed = True
    return Result(changed)
