"""Shrink one model of a zoo in both precisions and compare it with the model given, at two sizes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch

from campfire_fx import shrink
from campfire_fx.base.choices import Residual
from tests.assertions import (
    DOUBLE,
    SINGLE,
    Snapshot,
    assert_untouched,
    difference,
    outputs,
    parameters,
)
from tests.zoo.specimens import Specimen, specimen

LIMITS = {"float32": SINGLE, "float64": DOUBLE}


@dataclass(frozen=True, slots=True)
class Measured:
    """One model, before and after.

    Attributes:
        name: of the model.
        before, after: parameters.
        differences: precision -> the largest relative difference of the outputs at two sizes.
        seconds: of the shrink alone, in float32.
        pins: reason -> channels that had to stay for it.
        repairs: operations that were rewritten.
        failure: what went wrong, or "".
    """

    name: str
    before: int
    after: int
    differences: dict[str, float]
    seconds: float
    pins: dict[str, int]
    repairs: int
    failure: str = ""

    @property
    def left(self) -> float:
        """The share of the parameters that is left."""
        return self.after / self.before

    @property
    def exact(self) -> bool:
        """Whether the outputs agree within the tolerance of every precision tried."""
        return not self.failure and all(found <= LIMITS[dtype] for dtype, found in self.differences.items())


def compare(given: Specimen, slim: torch.nn.Module, like: torch.nn.Module | None = None) -> float:
    """Return the largest relative difference of the outputs at both sizes; `like` in the place of the model given."""
    worst = 0.0
    for inputs in (given.example, given.another):
        expected = outputs(given.compared(like or given.model), inputs)
        worst = max(worst, difference(expected, outputs(given.compared(slim), inputs)))
    return worst


@contextmanager
def widened(dtype: str) -> Iterator[None]:
    """Let a model that casts to float32 by itself (RAFT) run in float64."""
    if dtype != "float64":
        yield
        return
    with patch.object(torch.Tensor, "float", torch.Tensor.double):
        yield


def measure(name: str, residual: Residual = "union", dtypes: tuple[str, ...] = ("float32", "float64")) -> Measured:
    """Make a model, shrink it and compare; anything that goes wrong is raised."""
    found: dict[str, float] = {}
    facts: dict[str, Any] = {}
    for dtype in dtypes:
        with widened(dtype):
            given = specimen(name, dtype=getattr(torch, dtype))
            snapshot = Snapshot.of(given.model)
            start = time.perf_counter()
            slim = shrink(given.model, given.example, residual=residual, verify=False)
            seconds = time.perf_counter() - start
            assert_untouched(given.model, snapshot)
            del snapshot
            found[dtype] = compare(given, slim)
        pins: Counter[str] = Counter()
        for pin in slim.plan.pins:
            pins[pin.reason] += pin.channels
        if not facts:
            facts = {"before": parameters(given.model), "after": parameters(slim), "seconds": seconds}
            facts |= {"pins": dict(pins), "repairs": len(slim.plan.repairs)}
    return Measured(name=name, differences=found, **facts)
