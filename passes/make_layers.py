"""Make layers: a convolution or linear function on a module's own weight becomes the layer that torch has for it."""

from __future__ import annotations

from campfire_fx.analysis.edits.function_layers import layers_made
from campfire_fx.analysis.facts import Facts
from campfire_fx.passes.runner import Result, graph_pass, nothing_decided


@graph_pass(requires=(nothing_decided,))
def make_layers(facts: Facts) -> Result:
    """Make layers where every use of a weight is the same call; their paths are what was done."""
    made = layers_made(facts.captured)
    return Result(bool(made), made)
