"""Remove the channels of one model of a zoo to a target in MACs, one-shot, and check what shrinks against it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from campfire_fx import sparsify
from campfire_fx.base.errors import RegimeError
from campfire_fx.cost.measure import macs
from tests.assertions import SINGLE, parameters
from tests.zoo.measure import compare
from tests.zoo.specimens import specimen


@dataclass(frozen=True, slots=True)
class Pruned:
    """One model, dense and with its channels removed.

    Attributes:
        name: of the model.
        target: the part of its MACs that was asked for.
        before, after: parameters.
        left: the part of the MACs that the slim model has, counted by running it.
        predicted: the same by the coupling's costs, before anything was removed.
        difference: largest relative difference of the outputs of masked and slim model, at two sizes.
        seconds: of sparsify, finalize and shrink together.
        stays: reason -> channels that may not go for it.
        refused: what the error said where the target cannot be met, or "".
        failure: what went wrong, or "".
    """

    name: str
    target: float
    before: int = 0
    after: int = 0
    left: float = 1.0
    predicted: float = 1.0
    difference: float = 0.0
    seconds: float = 0.0
    stays: dict[str, int] = field(default_factory=dict)
    refused: str = ""
    failure: str = ""

    @property
    def exact(self) -> bool:
        """Whether outputs agree and the target is met as predicted, or was refused."""
        met = self.left <= self.target and abs(self.left - self.predicted) < 1e-6
        return not self.failure and (bool(self.refused) or (met and self.difference <= SINGLE))


def prune(name: str, target: float) -> Pruned:
    """Make a model, remove its channels to the target and compare; anything that goes wrong is raised."""
    given = specimen(name, zeros=False)
    before, example = macs(given.model, given.example).total, given.example
    start = time.perf_counter()
    try:
        sparse = sparsify(given.model, "channel", target={"macs": target}, example_inputs=example)
    except RegimeError as error:
        return Pruned(name, target, before=parameters(given.model), refused=str(error))
    slim = sparse.finalize().shrink(verify=False)
    seconds = time.perf_counter() - start
    coupling = sparse._life_cycle.state.coupling
    assert coupling is not None
    stays: Counter[str] = Counter()
    for one in coupling.stays:
        stays[one.reason] += one.channels
    return Pruned(
        name,
        target,
        before=parameters(given.model),
        after=parameters(slim),
        left=macs(slim, example).total / before,
        predicted=next(cost.now for cost in sparse.sparsity().costs if cost.name == "macs"),
        difference=compare(given, slim, sparse),
        seconds=seconds,
        stays=dict(stays),
    )
