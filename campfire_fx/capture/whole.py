"""Capture one module as one DualGraphModule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from campfire_fx.capture import graphs
from campfire_fx.capture.draws import undrawn
from campfire_fx.capture.dual import DualGraphModule
from campfire_fx.capture.evaluate import map_tensors
from campfire_fx.capture.execute import run
from campfire_fx.capture.records import Island, Specialisation
from campfire_fx.capture.survey import Survey
from campfire_fx.capture.tracer import ExampleTracer
from campfire_fx.capture.untouched import training_flags, untouched
from campfire_fx.errors import CaptureError


@dataclass(frozen=True, slots=True)
class Traced:
    """What tracing a module gave: its graphs, and what they read and depend on."""

    graph: fx.Graph
    train_graph: fx.Graph | None
    """None where training runs the same graph."""
    constants: dict[str, torch.Tensor]
    specialisations: tuple[Specialisation, ...]

    def same(self, other: Traced) -> bool:
        """Return whether both do the same in both modes."""
        if not graphs.same(self.graph, other.graph):
            return False
        if self.train_graph is None or other.train_graph is None:
            return self.train_graph is other.train_graph
        return graphs.same(self.train_graph, other.train_graph)

    def island(
        self,
        root: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        path: str = "",
        opaque: Iterable[str] = (),
        *,
        compiled: bool = True,
    ) -> Island:
        """Return the graphs as one module over the modules and parameters of `root`."""
        module = DualGraphModule(
            root,
            self.graph,
            self.train_graph,
            constants=self.constants,
            stands_in=bool(path),
            compiled=compiled,
        )
        args, kwargs = detached((args, kwargs))
        return Island(path, module, args, kwargs, self.specialisations, tuple(opaque))


def trace_graphs(survey: Survey, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    """Trace the model surveyed in evaluation and, where its code looks at the mode, in training.

    The training graph is the one for the flags as they stand if the model is in training (frozen batch norms stay
    frozen), else the one with every flag set. Raises CaptureError with the line of the code that cannot be captured.
    """
    tracer = _trace(survey, args, kwargs, training=False)
    if not tracer.fits():
        run(survey.root, args, kwargs)
    train_graph = None
    constants = dict(tracer.constants)
    facts = dict(tracer.questions.facts)
    if tracer.access.asks_mode:
        train = _trace(survey, args, kwargs, training=None if survey.root.training else True)
        if not graphs.same(tracer.graph, train.graph):
            train_graph = train.graph
            facts.update(train.questions.facts)
            _merge_constants(constants, train_graph, train.constants)
    return Traced(tracer.graph, train_graph, constants, tuple(facts))


def _trace(survey: Survey, args: tuple[Any, ...], kwargs: dict[str, Any], *, training: bool | None) -> ExampleTracer:
    def attempt() -> ExampleTracer:
        with untouched(survey.python), training_flags(survey.root, training):
            tracer = ExampleTracer(survey)
            tracer.run(args, kwargs)
        return tracer

    tracer, drew_at = undrawn(attempt, [scope for scope, _ in survey.reach.namespaces.values()])
    if drew_at is not None:
        owner = type(survey.root).__name__
        raise CaptureError(
            f"Random numbers at {drew_at}: {owner}.forward draws them outside of torch operations, and a graph would "
            "repeat the first draw for ever. Draw them with torch.rand and the like, or trace its parts."
        )
    if tracer.access.counters:  # once more, to see whether they are more than counted
        with untouched(survey.python), training_flags(survey.root, training):
            tracer.access.counters.put_in_place(survey.paths)
            ExampleTracer(survey).run(args, kwargs)
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
