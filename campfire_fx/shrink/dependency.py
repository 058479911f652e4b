"""The public dependency_graph: how the channels of a model depend on each other, before anything is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.channels import channel_graph
from campfire_fx.capture import trace
from campfire_fx.sparsity.channels.coupling import Coupling

if TYPE_CHECKING:
    import networkx as nx


def dependency_graph(
    model: nn.Module | Captured,
    example_inputs: Any = None,
    *,
    examples: list[Any] | None = None,
    coupling: Coupling | None = None,
) -> nx.DiGraph:
    """Return how channels flow between layers.

    Nodes are layers by path, "input" and "output", and by their node name the sums, concatenations and barriers at
    which channels meet. Node attributes: kind, operation, channels_in, channels_out, pinned (the reason, or None),
    sets (names of the coupled sets that its outputs belong to; none without a coupling).
    Edges run from producer to consumer: kind "reads" (the consumer mixes the channels) or "coupled" (they must be
    removed together), channels, via (the operations passed through).

    `examples`: a list of inputs in the place of `example_inputs`, for code that takes different ways: see `shrink`.
    `coupling`: of the same model, by `coupled_channels`.

    Raises:
        CaptureError: the model cannot be captured.
    """
    captured = model if isinstance(model, Captured) else trace(model, example_inputs, examples=examples)
    return channel_graph(captured, coupling)
