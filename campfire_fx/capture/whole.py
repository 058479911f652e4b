"""Capture one module as one DualGraphModule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from campfire_fx.analysis.captured import Call, Island, Specialisation, Variant
from campfire_fx.analysis.evaluate import map_tensors
from campfire_fx.base import frozen_graphs as graphs
from campfire_fx.capture.differences import right_for_equal_sizes, without_differences
from campfire_fx.capture.execute import describe, run
from campfire_fx.capture.generality import generalised
from campfire_fx.capture.guards import Guard, insert, kept_facts
from campfire_fx.capture.once import trace_once
from campfire_fx.capture.probes import needed_guards, same_constants
from campfire_fx.capture.session import Session
from campfire_fx.capture.stacks import carry_stacks
from campfire_fx.capture.survey import Survey
from campfire_fx.layers.dual import DualGraphModule, Modes


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
        if not graphs.same(self.graph, other.graph) or not same_constants(self.constants, other.constants):
            return False
        if self.train_graph is None or other.train_graph is None:
            return self.train_graph is other.train_graph
        return graphs.same(self.train_graph, other.train_graph)

    @property
    def asks(self) -> tuple[str, ...]:
        """What the guards of either mode ask for, as source text."""
        return tuple(dict.fromkeys(guard.text for guard in (*self.guards, *self.train_guards)))

    @property
    def facts(self) -> tuple[Specialisation, ...]:
        """What was taken for granted, each with what is asserted for it."""
        texts: dict[Specialisation, dict[str, None]] = {}
        for guard in (*self.guards, *self.train_guards):
            texts.setdefault(guard.fact, {})[guard.text] = None
        facts = dict.fromkeys((*self.specialisations, *texts))
        return tuple([replace(fact, guard=" and ".join(texts.get(fact, ()))) for fact in facts])

    def modes(self, constants: dict[str, torch.Tensor]) -> Modes:
        """Return the graphs with the guards in them; their constants go into `constants`."""
        insert(self.graph, self.guards)
        if self.train_graph is not None:
            insert(self.train_graph, self.train_guards)
        for graph in (self.graph, self.train_graph):
            if graph is not None:
                merge_constants(constants, graph, self.constants)
        return Modes(self.graph, self.train_graph)


@dataclass(slots=True, eq=False)
class Taken:
    """One way through a model's code, and the examples that take it, by their numbers."""

    traced: Traced
    examples: dict[int, Call]

    def variant(self) -> Variant:
        """Return what is known of it."""
        return Variant(tuple(detached(list(self.examples.values()))), self.traced.facts)


def island(
    root: nn.Module, ways: Sequence[Taken], path: str = "", opaque: Iterable[str] = (), *, compiled: bool = True
) -> Island:
    """Return graphs, guards in them, as one module over the modules and parameters of `root`."""
    constants = dict(ways[0].traced.constants)
    first, *others = [way.traced.modes(constants) for way in ways]
    variants = tuple([way.variant() for way in ways])
    told = tuple([(_told(way, path), way.traced.asks) for way in ways]) if others else ()
    module = DualGraphModule(
        root,
        first.graph,
        first.train_graph,
        others=others,
        told=told,
        constants=constants,
        stands_in=bool(path),
        compiled=compiled,
    )
    return Island(path, module, variants, tuple(opaque))


def _told(way: Taken, path: str) -> str:
    """Return what a variant is for, and of what form: `example 1 (float32 2x3x32x32)`, `call 2 of neck (...)`."""
    names = {number: f"call {number + 1} of {path}" if path else f"example {number + 1}" for number in way.examples}
    return ", ".join(f"{names[number]} {describe(*call)}" for number, call in way.examples.items())


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
    guards = without_differences(guards, tracer.questions, alike)
    train_graph = None
    constants = dict(tracer.constants)
    facts = dict.fromkeys((*kept_facts(tracer.questions), *tracer.questions.given, *tracer.questions.facts))
    train_guards: tuple[Guard, ...] = ()
    if tracer.asks_mode:
        training = None if survey.root.training else True
        train = trace_once(survey, args, kwargs, training=training, denied=denied)
        if not graphs.same(tracer.graph, train.graph) or _asks_more(train, tracer):
            train_graph = train.graph
            train_guards = needed_guards(survey, train, args, kwargs, training=training, denied=denied)
            train_guards = without_differences(train_guards, train.questions, alike)
            facts.update(dict.fromkeys((*kept_facts(train.questions), *train.questions.facts)))
            merge_constants(constants, train_graph, train.constants)
    carry_stacks(survey.root, tracer.graph, train_graph)
    return Traced(tracer.graph, train_graph, constants, tuple(facts), guards, train_guards)


def _asks_more(train: Session, tracer: Session) -> bool:
    """Return whether training depends on an answer that evaluation does not ask for."""
    return not {guard.text for guard in train.guards} <= {guard.text for guard in tracer.guards}


def merge_constants(into: dict[str, torch.Tensor], graph: fx.Graph, constants: dict[str, torch.Tensor]) -> None:
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
