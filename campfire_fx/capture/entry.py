"""`trace`: a model and an example in, what could be captured out."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from campfire_fx.analysis.captured import Call, Captured
from campfire_fx.base.errors import CaptureError
from campfire_fx.base.patches import one_at_a_time
from campfire_fx.capture.example import examples_for
from campfire_fx.capture.execute import fits, run
from campfire_fx.capture.given import model_of
from campfire_fx.capture.islands import capture_islands
from campfire_fx.capture.survey import Survey
from campfire_fx.capture.variants import variant_of, ways_of
from campfire_fx.capture.whole import detached, island, trace_graphs
from campfire_fx.layers.dual import DualGraphModule


@one_at_a_time
@torch.inference_mode(mode=False)  # inference tensors cannot be trained
def trace(
    model: nn.Module, example_inputs: Any = None, *, examples: list[Any] | None = None, compiled: bool = True
) -> Captured:
    """Capture `model` as graphs over its own modules and parameters. The model given is not altered.

    A submodule whose code cannot be followed stays as it is, a leaf of the graph around it; where that is the model
    itself, its largest parts are captured. `Captured.untraced` names what stays Python, with the line that did it.
    What the example decided (`Captured.guards`) the graphs assert of their inputs, in every call.
    `examples`: a list of such inputs, in the place of `example_inputs`. Where they take different ways through the
    model's code, there are graphs for each way, and a call runs those of the first example that it is like.
    Without `compiled`, a model captured whole runs only after `module.recompile()`: for who edits its graphs first.
    Raises CaptureError where nothing can be captured, or the model does not run on the example.
    """
    model = model_of(model, needs_values=False)
    calls = examples_for(model, example_inputs, examples)
    for call in calls[1:]:
        if not fits(model, *call):
            run(model, *call)  # says what is wrong
    try:
        ways = ways_of(model, calls, lambda call: trace_graphs(Survey(_way_of(model, call)), *call))
    except CaptureError as reason:
        return capture_islands(model, calls, reason)
    whole = island(model, ways, compiled=compiled)
    return Captured(whole.module, (whole,), (), whole.args, whole.kwargs, tuple(detached(calls[1:])))


def _way_of(model: nn.Module, call: Call) -> nn.Module:
    """Return the part of a model captured before that these inputs run; any other model as it is."""
    number = variant_of(model, call) if isinstance(model, DualGraphModule) else None
    return model if number is None else model.only(number)  # type: ignore[operator]
