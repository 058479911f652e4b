"""Capture one module as one DualGraphModule."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from campfire_fx.capture import graphs
from campfire_fx.capture.dual import DualGraphModule
from campfire_fx.capture.evaluate import map_tensors
from campfire_fx.capture.execute import run
from campfire_fx.capture.records import Island
from campfire_fx.capture.survey import Survey
from campfire_fx.capture.tracer import ExampleTracer
from campfire_fx.capture.untouched import RandomStates, training_flags, untouched
from campfire_fx.errors import CaptureError


def capture_whole(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], path: str = "") -> Island:
    """Capture `model` in evaluation and in training, over its own modules and parameters.

    The training graph is the one for the flags as they stand if the model is in training (frozen batch norms stay
    frozen), else the one with every flag set. Raises CaptureError with the line of the code that cannot be captured.
    """
    survey = Survey(model)
    tracer = _trace(survey, args, kwargs, training=False)
    if not tracer.fits():
        run(model, args, kwargs)
    train = _trace(survey, args, kwargs, training=None if model.training else True)
    train_graph = None if graphs.same(tracer.graph, train.graph) else train.graph
    constants = dict(tracer.constants)
    specialisations = dict(tracer.specialisations)
    if train_graph is not None:
        specialisations.update(train.specialisations)
        _merge_constants(constants, train_graph, train.constants)
    module = DualGraphModule(model, tracer.graph, train_graph, constants=constants, stands_in=bool(path))
    args, kwargs = detached((args, kwargs))
    return Island(path, module, args, kwargs, tuple(specialisations))


def _trace(survey: Survey, args: tuple[Any, ...], kwargs: dict[str, Any], *, training: bool | None) -> ExampleTracer:
    random_states = RandomStates()
    try:
        with untouched(survey.python), training_flags(survey.root, training):
            tracer = ExampleTracer(survey)
            tracer.run(args, kwargs)
    finally:
        drew = random_states.restore()
    if drew:
        raise CaptureError(
            f"Random numbers at {type(survey.root).__name__}.forward: it draws them outside of torch operations, and a "
            "graph would repeat the first draw for ever. Draw them with torch.rand and the like, or trace its parts."
        )
    return tracer


def _merge_constants(into: dict[str, torch.Tensor], graph: fx.Graph, constants: dict[str, torch.Tensor]) -> None:
    """Add the constants of a second graph, under new names where the first has the name."""
    names: dict[str, str] = {}
    for name, tensor in constants.items():
        known = next((key for key, value in into.items() if value is tensor), None)
        names[name] = known or f"_constant{len(into)}"
        into[names[name]] = tensor
    for node in graph.nodes:
        if node.op == "get_attr" and node.target in names:
            node.target = names[str(node.target)]


def detached(value: Any) -> Any:
    """Return nested inputs with every tensor detached."""
    return map_tensors(value, torch.Tensor.detach)
