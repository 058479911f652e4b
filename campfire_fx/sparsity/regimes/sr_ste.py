"""SR-STE (Zhou et al. 2021, arXiv 2102.04010): N:M from scratch, with dense weights that are drawn to their zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.sharding import local, part_of
from campfire_fx.base.zeroing import selected
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.regimes.magnitude import n_of_m
from campfire_fx.sparsity.regimes.swat import DenseWeights
from campfire_fx.sparsity.schedule import Throughout


@dataclass(frozen=True, slots=True)
class SparseRefined(DenseWeights):
    """Dense weights whose gradient is that of the sparse ones, plus `decay` times what the mask leaves out."""

    name = "sr-ste"
    period: int = 1
    inputs: bool = False
    decay: float = 2e-4

    def __post_init__(self) -> None:
        DenseWeights.__post_init__(self)
        if isinstance(self.decay, bool) or not isinstance(self.decay, (int, float)) or not 0 <= self.decay < 1:
            raise RegimeError(f"decay: {self.decay!r} is outside [0, 1). The paper has 0.0002 for SGD.")

    def before_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Refine the gradient: see `Method`."""
        del now
        for layer in layers:
            weight = layer.module.weight
            if weight.grad is not None and layer.trains_dense:
                pull = self.decay * selected(local(weight.detach()), part_of(~layer.mask, weight))
                local(weight.grad).add_(pull if layer.scale is None else pull * layer.scale)


def sr_ste(n: int = 2, m: int = 4, decay: float = 2e-4) -> Regime:
    """Compute with the n largest of every m weights along the input channels, chosen after every step; train all.

    The gradient of the sparse weights goes straight through to the dense ones (STE), plus decay * (1 - mask) * weight
    what is left out is drawn to zero, and masks come to rest. A short last run stays whole.

    Raises:
        RegimeError: not 0 < n < m, or the decay is outside [0, 1).
    """
    pattern = n_of_m(n, m)
    return replace(pattern, name="sr-ste", schedule=Throughout, update=SparseRefined(decay=decay))


ENTRIES = (
    RegimeEntry(
        name="sr-ste",
        make=sr_ste,
        does="forward uses 2 of every 4 weights, chosen after every step; the others decay and may come back",
        family="pattern",
        granularity="weights in each run",
        gains="2:4",
        source="Zhou et al. 2021, arXiv 2102.04010, SR-STE",
    ),
)
