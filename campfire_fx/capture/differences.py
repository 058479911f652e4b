"""Guards that ask for sizes to differ, where the way that was taken is right for equal ones too.

`if self.shape != x.shape: self.grid = make_grid(x)` was run before at another size, and
`if y.shape != skip.shape: y = interpolate(y, skip.shape[2:])` was given an example that takes the longer way. A trace
where the sizes are equal tells, with `generality`, whether there is one way for both: if so, it is the graph at hand.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from campfire_fx.analysis.evaluate import map_tensors
from campfire_fx.base import frozen_graphs as graphs
from campfire_fx.base.copies import private_copy
from campfire_fx.base.errors import CaptureError
from campfire_fx.capture.execute import run_in_place
from campfire_fx.capture.formulas import Formula
from campfire_fx.capture.generality import generalised
from campfire_fx.capture.guards import Guard
from campfire_fx.capture.once import trace_once
from campfire_fx.capture.probes import same_constants
from campfire_fx.capture.questions import Place, Questions
from campfire_fx.capture.session import Session
from campfire_fx.capture.survey import Survey

_ROUND = 32  # sizes that networks halve again and again without a rest


def without_differences(guards: Iterable[Guard], questions: Questions, places: frozenset[Place]) -> tuple[Guard, ...]:
    """Return the guards of a trace but those that keep sizes different at these places alone."""
    return tuple([g for g in guards if not (_keeps_apart(g) and places.issuperset(_places(g, questions) or {None}))])


def right_for_equal_sizes(
    survey: Survey, traced: Session, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> frozenset[Place]:
    """Return the places that found sizes to differ, in a trace in evaluation, whose graph does not depend on it."""
    asked = (place for g in traced.guards if _keeps_apart(g) for place in _places(g, traced.questions))
    places = {place for place in asked if place is not None}
    found = frozenset[Place]()
    for other, inputs in _where_equal(survey, args, kwargs) if places else ():
        try:
            trial = trace_once(other, *inputs, training=False)
            if places.isdisjoint(trial.questions.equal):
                continue
            trial, told = generalised(other, trial, *inputs)
        except CaptureError:
            continue
        if graphs.same(trial.graph, traced.graph) and same_constants(trial.constants, traced.constants):
            found |= {place for place in places & trial.questions.equal if place[0] in told}
        if found >= places:
            break
    return found


def _places(guard: Guard, questions: Questions) -> set[Place | None]:
    """Return the places of the comparisons that a guard keeps the answer of; None for any other question."""
    return {questions.comparisons.get(question.node) for question in questions.facts.get(guard.fact, ())}


def _keeps_apart(guard: Guard) -> bool:
    return isinstance(guard.condition, Formula) and guard.condition.function is operator.ne


def _where_equal(survey: Survey, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[Survey, Any]]:
    """Yield models and inputs for which sizes may be equal: one that was run at this size; rounder sizes."""
    model = private_copy(survey.root)
    try:
        run_in_place(model, args, kwargs)
        yield Survey(model, survey.opaque), (args, kwargs)
    except CaptureError:
        pass

    def rounder(tensor: torch.Tensor) -> torch.Tensor:
        shape = [size if dim < 2 else -(-size // _ROUND) * _ROUND for dim, size in enumerate(tensor.shape)]
        return tensor if shape == list(tensor.shape) else torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)

    yield survey, map_tensors((args, kwargs), rounder)
