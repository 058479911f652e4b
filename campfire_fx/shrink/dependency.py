"""The public dependency_graph: how the channels of a model depend on each other, before anything is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.channels import channel_graph
from campfire_fx.capture import trace
from campfire_fx.sparsity.channels.coupling import Coupling

if TYPE_CHECKING:
    from campfire_fx.report.dependency import DependencyGraph


def dependency_graph(
    model: nn.Module | Captured,
    example_inputs: Any = None,
    *,
    examples: list[Any] | None = None,
    coupling: Coupling | None = None,
) -> DependencyGraph:
    """Return how channels flow between layers, as a `networkx.DiGraph` that a notebook draws.

    Nodes are layers by path, "input" and "output", and the sums, concatenations and barriers at which channels meet:
    these by the module whose code makes the call and what it does, `layer1.0 (add)`, in the model's own forward `add`;
    of several alike all but the first have a number, `layer1.0 (add 2)`. Node attributes: kind, operation,
    channels_in, channels_out, pinned (the reason, or None), sets (names of the coupled sets that its outputs belong
    to; none without a coupling).
    Edges run from producer to consumer: kind "reads" (the consumer mixes the channels) or "coupled" (they must be
    removed together), channels, via (the operations passed through).

    `examples`: a list of inputs in the place of `example_inputs`, for code that takes different ways: see `shrink`.
    `coupling`: of the same model, by `coupled_channels`.

    Raises:
        CaptureError: the model cannot be captured.
    """
    from campfire_fx.report.dependency import DependencyGraph  # slow to load

    captured = model if isinstance(model, Captured) else trace(model, example_inputs, examples=examples)
    return DependencyGraph(channel_graph(captured, coupling))
