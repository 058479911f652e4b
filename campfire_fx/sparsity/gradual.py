"""Gradual pruning: masks follow the schedule, and what is zero stays zero (Campfire, Algorithm 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.layer import PrunedLayer, Update, monotone
from campfire_fx.sparsity.method import Method
from campfire_fx.sparsity.over_layers import move


@dataclass(frozen=True, slots=True)
class Gradual(Method):
    """Where the schedule asks for more sparsity than before, the rule's proposal is taken up; in no other epoch."""

    name = "gradual"
    ranks_over_layers = True
    update: Update = monotone

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Move the masks: see `Method`."""
        del now
        move(layers, self.update)

    def behaviour(self) -> Tensor:
        """See `Method`: of all pairs of bits."""
        return self.update(*torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0]], dtype=torch.bool).view(2, 2, 2, 1))


GRADUAL = Gradual()
