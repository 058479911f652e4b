"""Window pruning: every kernel keeps its few largest weights."""

from __future__ import annotations

from dataclasses import dataclass

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.granularity import ELEMENT
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.regimes.fine_fc import FINE
from campfire_fx.sparsity.regimes.unstructured import MAGNITUDE
from campfire_fx.sparsity.scope import WITHIN_KERNEL
from campfire_fx.sparsity.score import largest
from campfire_fx.sparsity.selection import ROUNDING, Cut


@dataclass(frozen=True, slots=True)
class ZerosPerKernel:
    """How many weights of a kernel of `size` die at sparsity s: max(int(s * size), size - cap - 1) + 1.

    Always a whole number, the same for all kernels of a layer, and above s * size: a 3x3 kernel has 2, 4, 6, 7, 8
    zeros at 20, 40, 60, 70, 80 %, so the true sparsity is .22, .44, .67, .78, .89. `cap` is the largest number of
    non-zeros allowed in a kernel, whatever the sparsity; it holds from the first epoch in which s > 0.

    The paper says only that the number is fixed. The formula is recollected and not verified; with cap = 2 it
    reproduces the true sparsities of the paper's Table 1, which is an inference and not a statement of the paper.
    """

    cap: int | None = None

    def __call__(self, size: int, sparsity: float) -> int:
        """Count the zeros of a kernel."""
        if sparsity <= 0:
            return 0
        floor = 0 if self.cap is None else size - self.cap - 1
        return max(int(size * sparsity + ROUNDING), floor) + 1


def window(cap: int | None = None) -> Regime:
    """Keep at most a fixed number of weights in every kernel, the largest (Campfire, Algorithm 3).

    Kernels of one weight (1x1 convolutions) have no window: they are pruned by magnitude within the layer, and
    linear layers weight by weight. At least one weight of every kernel stays.

    Raises:
        RegimeError: the cap is below 1.
    """
    cap = check_cap("window", cap)
    inside = Cut(ELEMENT, largest, WITHIN_KERNEL, ZerosPerKernel(cap))
    return Regime("window", spatial=inside, pointwise=MAGNITUDE, linear=FINE)


def check_cap(regime: str, cap: int | None) -> int | None:
    """Return a cap on non-zeros; raise a RegimeError if it is no number of them, or leaves nothing."""
    cap = plain(cap)
    if cap is not None and (type(cap) is not int or cap < 1):
        wrong = "leaves nothing of a kernel" if type(cap) is int else "is no whole number"
        raise RegimeError(f"regime '{regime}': a cap of {cap!r} non-zeros {wrong}. Give 1 or more, or None.")
    return cap
