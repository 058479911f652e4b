"""`trace`: a model and an example in, what could be captured out."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.base.errors import CaptureError
from campfire_fx.base.patches import one_at_a_time
from campfire_fx.capture.example import example_for
from campfire_fx.capture.given import model_of
from campfire_fx.capture.islands import capture_islands
from campfire_fx.capture.survey import Survey
from campfire_fx.capture.whole import trace_graphs


@one_at_a_time
@torch.inference_mode(mode=False)  # whose tensors could never be trained
def trace(model: nn.Module, example_inputs: Any = None, *, compiled: bool = True) -> Captured:
    """Capture `model` as graphs over its own modules and parameters. The model given is not altered.

    A submodule whose code cannot be followed stays as it is, a leaf of the graph around it; where that is the model
    itself, its largest parts are captured. `Captured.untraced` names what stays Python, with the line that did it.
    What the example decided (`Captured.guards`) the graphs assert of their inputs, in every call.
    Without `compiled`, a model captured whole runs only after `module.recompile()`: for who edits its graphs first.
    Raises CaptureError where nothing can be captured, or the model does not run on the example.
    """
    model = model_of(model, needs_values=False)
    args, kwargs = example_for(model, example_inputs)
    try:
        traced = trace_graphs(Survey(model), args, kwargs)
    except CaptureError as reason:
        return capture_islands(model, args, kwargs, reason)
    island = traced.island(model, args, kwargs, compiled=compiled)
    return Captured(island.module, (island,), (), island.args, island.kwargs)
