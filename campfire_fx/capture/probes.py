"""Which answers the graph does not depend on: traces at other sizes tell.

Code asks for sizes to print them, to look a cached tensor up, to check them. Where another size gives another answer
and the same graph, the answer was no decision, and needs no guard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from campfire_fx.analysis.captured import Specialisation
from campfire_fx.analysis.evaluate import map_tensors
from campfire_fx.base import frozen_graphs as graphs
from campfire_fx.base.errors import CaptureError
from campfire_fx.capture.guards import Guard
from campfire_fx.capture.once import trace_once
from campfire_fx.capture.session import Session
from campfire_fx.capture.survey import Survey

_WIDER = 32
_DECISIONS = ("bool", "argument", "kept")


def needed_guards(
    survey: Survey, traced: Session, args: tuple[Any, ...], kwargs: dict[str, Any], **how: Any
) -> tuple[Guard, ...]:
    """Return the guards of a trace that its graph needs; traces the model again, in the way that `how` says."""
    guards = traced.guards
    if all(guard.form in _DECISIONS for guard in guards):
        return guards
    telling: set[Guard] = set()
    for other in _other_sizes(args, kwargs):
        try:
            probe = trace_once(survey, *other, **how)
        except CaptureError:
            continue
        left = tuple(without_answered(guards, probe.questions.facts))
        if graphs.same(traced.graph, probe.graph) and same_constants(traced.constants, probe.constants):
            guards = left
        elif all(guard in left for guard in guards if guard.form in _DECISIONS):
            telling.update(guard for guard in guards if guard not in left)
    # Text is for people, as a rule: it decides only where another text has been seen to give another graph.
    return tuple([guard for guard in guards if guard.form != "str" or guard in telling])


def without_answered(guards: Iterable[Guard], facts: Iterable[Specialisation]) -> Iterator[Guard]:
    """Yield the guards but those whose question has another answer in `facts`, of a trace that gave the same graph."""
    answers: dict[tuple[str, str], list[object]] = {}
    for fact in facts:
        answers.setdefault((fact.where, fact.expression), []).append(fact.value)
    for guard in guards:
        known = answers.get((guard.fact.where, guard.fact.expression), [guard.fact.value])
        if guard.fact.value in known:
            yield guard


def _other_sizes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield inputs without content: one more in the batch and a wider space, then one more in the batch alone."""
    first: list[torch.Tensor] = []
    map_tensors((args, kwargs), first.append)
    batch = next((tensor.shape[0] for tensor in first if tensor.dim()), 0)
    for wider in (_WIDER, 0):

        def resized(tensor: torch.Tensor, wider: int = wider) -> torch.Tensor:
            shape = [size + wider * (dim > 1) for dim, size in enumerate(tensor.shape)]
            shape[:1] = [size + (size == batch) for size in shape[:1]]
            return tensor.new_empty(shape)

        yield map_tensors((args, kwargs), resized)


def same_constants(some: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Return whether two traces read the same tensors that the model does not own."""
    return some.keys() == other.keys() and all(
        tensor is other[name] or (tensor.shape == other[name].shape and torch.equal(tensor, other[name]))
        for name, tensor in some.items()
    )
