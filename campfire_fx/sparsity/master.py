"""Dense master weights: how a method trains the weights that are under the mask."""

from __future__ import annotations

from dataclasses import dataclass

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain_fields


@dataclass(frozen=True, slots=True)
class DenseMaster:
    """Weights under the mask get gradients, are stepped and can come back; the mask is chosen anew all the time.

    Sparse are the weight that forward and backward pass compute with, and what the weight gradient sees of the
    input (SWAT, Algorithm 1). After every step the mask is what reaches the threshold; thresholds are computed
    every `period` steps, those of a rule without `reuse` after every step. `finalize` ends it: each layer is pruned
    once to its sparsity, to the weight.

    Attributes:
        period: steps of the optimizer between two computations of a threshold.
        inputs: whether the weight gradient sees only the largest part of the input, as sparse as the weight.

    Raises:
        RegimeError: the period is not a whole number from 1 up.
    """

    period: int = 10
    inputs: bool = True

    def __post_init__(self) -> None:
        plain_fields(self)
        if type(self.period) is not int or self.period < 1:
            raise RegimeError(
                f"period: {self.period!r} is no number of steps. Give a whole number from 1 up; SWAT has 10 or 20 on "
                "CIFAR, and 1001 at a batch of 256 on ImageNet."
            )
