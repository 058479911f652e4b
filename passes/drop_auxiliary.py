"""Drop auxiliary: where the training graph uses layers that the inference graph does not, it goes."""

from __future__ import annotations

from campfire_fx.analysis.facts import Facts
from campfire_fx.layers.unused import used_paths
from campfire_fx.passes.runner import Result, graph_pass, nothing_decided


@graph_pass(requires=(nothing_decided,))
def drop_auxiliary(facts: Facts) -> Result:
    """Let a model train with its inference graph where its training graph uses further layers."""
    changed = False
    for island in facts.captured.islands:
        variants = island.module.graph_variants
        evaluates = used_paths([modes.graph for modes in variants])
        for number, modes in enumerate(variants):
            if modes.train_graph is not None and used_paths([modes.train_graph]) - evaluates:
                island.module.train_alike(number)
                changed = True
    return Result(changed)
