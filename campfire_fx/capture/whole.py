"""Capture one module as one DualGraphModule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from campfire_fx.analysis.captured import Island, Specialisation
from campfire_fx.analysis.evaluate import map_tensors
from campfire_fx.base import frozen_graphs as graphs
from campfire_fx.capture.differences import right_for_equal_sizes, without_differences
from campfire_fx.capture.execute import run
from campfire_fx.capture.generality import generalised
from campfire_fx.capture.guards import Guard, insert
from campfire_fx.capture.once import trace_once
from campfire_fx.capture.probes import needed_guards, without_answered
from campfire_fx.capture.survey import Survey
from campfire_fx.capture.tracer import ExampleTracer
from campfire_fx.layers.dual import DualGraphModule


@dataclass(frozen=True, slots=True)
class Traced:
    """What tracing a module gave: its graphs, and what they read and depend on."""

    graph: fx.Graph
    train_graph: fx.Graph | None
    """None where training runs the same graph."""
    constants: dict[str, torch.Tensor]
    specialisations: tuple[Specialisation, ...]
    guards: tuple[Guard, ...]
    train_guards: tuple[Guard, ...]

    def same(self, other: Traced) -> bool:
        """Return whether both do the same in both modes."""
        if not graphs.same(self.graph, other.graph):
            return False
        if self.train_graph is None or other.train_graph is None:
            return self.train_graph is other.train_graph
        return graphs.same(self.train_graph, other.train_graph)

    def relaxed(self, other: Traced) -> Traced:
        """Return this without the guards that `other`, which does the same on other inputs, shows to be needless."""
        guards = tuple(without_answered(self.guards, other.specialisations))
        return replace(
            self, guards=guards, train_guards=tuple(without_answered(self.train_guards, other.specialisations))
        )

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
        """Return the graphs, guards in them, as one module over the modules and parameters of `root`."""
        insert(self.graph, self.guards)
        if self.train_graph is not None:
            insert(self.train_graph, self.train_guards)
        module = DualGraphModule(
            root,
            self.graph,
            self.train_graph,
            constants=self.constants,
            stands_in=bool(path),
            compiled=compiled,
        )
        args, kwargs = detached((args, kwargs))
        texts: dict[Specialisation, dict[str, None]] = {}
        for guard in (*self.guards, *self.train_guards):
            texts.setdefault(guard.fact, {})[guard.text] = None
        facts = tuple([replace(fact, guard=" and ".join(texts.get(fact, ()))) for fact in self.specialisations])
        return Island(path, module, args, kwargs, facts, tuple(opaque))


def trace_graphs(survey: Survey, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    """Trace the model surveyed in evaluation and, where its code looks at the mode, in training.

    The training graph is the one for the flags as they stand if the model is in training (frozen batch norms stay
    frozen), else the one with every flag set. Raises CaptureError with the line of the code that cannot be captured.
    """
    tracer = trace_once(survey, args, kwargs, training=False)
    if not tracer.fits():
        run(survey.root, args, kwargs)
    tracer, denied = generalised(survey, tracer, args, kwargs)
    alike = right_for_equal_sizes(survey, tracer, args, kwargs)
    guards = needed_guards(survey, tracer, args, kwargs, training=False, denied=denied)
    train_graph = None
    constants = dict(tracer.constants)
    facts = dict.fromkeys((*tracer.questions.given, *tracer.questions.facts))
    train_guards: tuple[Guard, ...] = ()
    if tracer.access.asks_mode:
        training = None if survey.root.training else True
        train = trace_once(survey, args, kwargs, training=training, denied=denied)
        if not graphs.same(tracer.graph, train.graph) or _asks_more(train, tracer):
            train_graph = train.graph
            train_guards = needed_guards(survey, train, args, kwargs, training=training, denied=denied)
            facts.update(dict.fromkeys(train.questions.facts))
            _merge_constants(constants, train_graph, train.constants)
    guards, train_guards = without_differences(guards, alike), without_differences(train_guards, alike)
    return Traced(tracer.graph, train_graph, constants, tuple(facts), guards, train_guards)


def _asks_more(train: ExampleTracer, tracer: ExampleTracer) -> bool:
    """Return whether training depends on an answer that evaluation does not ask for."""
    return not {guard.text for guard in train.guards} <= {guard.text for guard in tracer.guards}


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
