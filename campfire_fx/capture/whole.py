"""Capture a model: `trace`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from campfire_fx.capture.dual import DualGraphModule
from campfire_fx.capture.example import example_for
from campfire_fx.capture.records import Captured, Island
from campfire_fx.capture.tracer import trace_graph


def trace(model: nn.Module, example_inputs: Any = None) -> Captured:
    """Capture `model` as graphs over its own modules and parameters. The model given is not altered."""
    args, kwargs = example_for(model, example_inputs)
    with mode(model, training=False):
        graph = trace_graph(model, args, kwargs)
    module = DualGraphModule(model, graph)
    return Captured(module, (Island("", module, args, kwargs),), (), args, kwargs)


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Set every `training` flag, without running the model's own `train`, and put all back afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = training
        yield
    finally:
        for module, flag in flags:
            module.training = flag
