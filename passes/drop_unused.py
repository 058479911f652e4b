"""Drop unused: modules, parameters and buffers that no graph reads any more are gone from the model."""

from __future__ import annotations

from campfire_fx.analysis.facts import Facts
from campfire_fx.layers.dual import graphs_of
from campfire_fx.layers.unused import keep_only, used_paths
from campfire_fx.passes.runner import Result, graph_pass


@graph_pass()
def drop_unused(facts: Facts) -> Result:
    """Delete what no graph reads from every graph module."""
    roots = [island.module for island in facts.captured.islands]
    return Result(sum(keep_only(root, used_paths(graphs_of(root))) for root in roots) > 0)
