"""ADMM as an update: between two moves of the masks, weights are drawn towards the nearest sparse ones.

min f(W) subject to W in S is split into W and Z in S (StructADMM, arXiv 1807.11091). One iteration, scaled dual U:

1. W by any optimizer on f + rho/2 * ||W - Z + U||^2, whose gradient adds rho * (W - Z + U);
2. Z' = the point of S that is nearest to W + U: the groups of largest L2 norm stay, the others are zero;
3. U' = U + W - Z'.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain_fields
from campfire_fx.sparsity.selection import Goal, Rule
from campfire_fx.sparsity.update import monotone


@dataclass(frozen=True, slots=True)
class Admm:
    """The update of StructADMM; masks themselves move as in `monotone`, by the rule on W, when the schedule says so.

    Attributes:
        rho: of the penalty, at first.
        multiply: what rho is multiplied by at each update of Z and U; 1 keeps it. U is not rescaled.
        every: epochs from one update of Z and U to the next.

    Raises:
        RegimeError: rho or its multiplier is not positive, or `every` is no whole number from 1 up.
    """

    rho: float = 0.03
    multiply: float = 1.3
    every: int = 1

    def __post_init__(self) -> None:
        plain_fields(self)
        for name, value in (("rho", self.rho), ("multiply", self.multiply)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise RegimeError(f"ADMM: {name}={value!r} is not above 0. Give a positive number.")
        if type(self.every) is not int or self.every < 1:
            raise RegimeError(f"ADMM: every={self.every!r} is no number of epochs. Give 1 or more.")

    def __call__(self, mask: Tensor, proposal: Tensor) -> Tensor:
        """Return the next mask: see `Update`."""
        return monotone(mask, proposal)

    def rho_after(self, updates: int) -> float:
        """Return rho after so many updates of Z and U."""
        return self.rho * self.multiply**updates


@dataclass(frozen=True, slots=True)
class Iterate:
    """How far ADMM has come in one layer; plain numbers, saved in the `state_dict`.

    Attributes:
        aim: the sparsity that Z has.
        since: the epoch in which this aim was taken up.
        updates: how many updates of Z and U it has seen.
        epoch: the epoch of the last one.
        rho: of the penalty since then.
        primal: ||W - Z'||^2 at the last update: how far the weights are from being sparse.
        dual: ||Z' - Z||^2 at the last update; None before the first one.
    """

    aim: float
    since: int
    updates: int
    epoch: int
    rho: float
    primal: float
    dual: float | None = None


def project(rule: Rule, weight: Tensor, mask: Tensor, goal: Goal) -> Tensor:
    """Return the nearest weight, in the Euclidean norm, that is as sparse as a rule asks for.

    It is the nearest where the rule ranks whole groups by their L2 norm within the layer (a `Cut` with `l2`).

    Args:
        rule: what may stay.
        weight: (K, C, P), zero under the mask.
        mask: (K, C, P) bool; what is masked stays zero.
        goal: the sparsity asked for.
    """
    return torch.where(mask & rule(weight, mask, goal), weight, 0.0)


def squared(tensor: Tensor) -> float:
    """Return the squared Frobenius norm, summed in float64."""
    return float(tensor.double().square().sum())
