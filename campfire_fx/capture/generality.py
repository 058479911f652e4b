"""Take the general of two ways where the example's sizes let the code choose a shorter one.

`if y.shape != skip.shape: y = interpolate(y, skip.shape[2:])` does nothing where the sizes are equal, and
`if self.shape != x.shape: self.grid = make_grid(x)` gives what a call of this size gave before. Denying that the sizes
are equal gives a graph for both answers, if it computes the same where they are: that is tried, to the bit.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from campfire_fx.analysis.evaluate import map_tensors
from campfire_fx.base.errors import CaptureError
from campfire_fx.base.frozen_graphs import freeze, thaw
from campfire_fx.capture.execute import run
from campfire_fx.capture.once import trace_once
from campfire_fx.capture.session import Session
from campfire_fx.capture.survey import Survey
from campfire_fx.layers.dual import DualGraphModule

_MOST_LINES = 4  # each may cost a trace and a run
_LOUD = 8.0  # so that a bound on values, if there is one, shows


def generalised(
    survey: Survey, traced: Session, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Session, frozenset[str]]:
    """Return the most general trace in evaluation, and the lines of code that were told that sizes differ."""
    lines = tuple(traced.questions.equalities)
    if not lines or len(lines) > _MOST_LINES:
        return traced, frozenset()
    inputs = _noise(args, kwargs)
    expected: Any = None
    best, told = traced, frozenset[str]()
    for denied in _choices(lines):
        if told and len(denied) == len(lines):
            continue
        try:
            trial = trace_once(survey, args, kwargs, training=False, denied=told | denied)
            if _weights(survey, trial) != _weights(survey, traced):
                continue
            expected = _output(survey.root, traced, *inputs) if expected is None else expected
            if not _equal(expected, _output(survey.root, trial, *inputs)):
                continue
        except CaptureError:
            continue
        best, told = trial, told | denied
        if told.issuperset(lines):
            break
    return best, told


def _choices(lines: tuple[str, ...]) -> Iterator[frozenset[str]]:
    """Yield all lines, then each alone."""
    yield frozenset(lines)
    if len(lines) > 1:
        yield from (frozenset({line}) for line in lines)


def _noise(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Return inputs like these, of random numbers where they are floating-point."""
    generator = torch.Generator().manual_seed(0)

    def drawn(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        return (_LOUD * torch.randn(tensor.shape, generator=generator)).to(tensor)

    result: tuple[Any, Any] = map_tensors((args, kwargs), drawn)
    return result


def _output(root: nn.Module, traced: Session, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a trace of `root` in evaluation."""
    return run(DualGraphModule(root, thaw(freeze(traced.graph)), constants=traced.constants), args, kwargs)


def _weights(survey: Survey, traced: Session) -> Counter[str]:
    """Count the uses of what trains: the ways that are both right before training may part after it."""

    def trains(node: fx.Node) -> bool:
        if node.op == "call_module":
            return any(True for _ in survey.modules[str(node.target)].parameters())
        return node.op == "get_attr" and isinstance(_held(survey.root, traced, str(node.target)), nn.Parameter)

    return Counter([str(node.target) for node in traced.graph.nodes if trains(node)])


def _held(root: nn.Module, traced: Session, target: str) -> Any:
    return traced.constants[target] if target in traced.constants else operator.attrgetter(target)(root)


def _equal(value: Any, other: Any) -> bool:
    """Return whether outputs are equal to the bit."""
    if isinstance(value, torch.Tensor):
        return isinstance(other, torch.Tensor) and value.dtype == other.dtype and torch.equal(value, other)
    if isinstance(value, dict):
        return isinstance(other, dict) and list(value) == list(other) and all(_equal(value[k], other[k]) for k in value)
    if isinstance(value, (tuple, list)):
        return len(value) == len(other) and all(map(_equal, value, other))
    return type(value) is type(other) and bool(value == other)
