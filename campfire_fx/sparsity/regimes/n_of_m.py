"""N:M sparsity: N weights kept of every M neighbouring input channels."""

from __future__ import annotations

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.granularity import ELEMENT
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.scope import runs
from campfire_fx.sparsity.score import largest
from campfire_fx.sparsity.selection import Cut


def n_of_m(n: int = 2, m: int = 4) -> Regime:
    """Keep the n largest of every m weights along the input channels; the final sparsity is 1 - n/m.

    Inside the era the number of zeros of a run rises from 0 to m - n. A last run shorter than m stays whole, so a
    layer with fewer than m input channels stays dense.

    Raises:
        RegimeError: not 0 < n < m.
    """
    n, m = plain(n), plain(m)
    if not 0 < n < m:
        raise RegimeError(f"regime '{n}:{m}': {n} of {m} is not a part. Keep n of m weights with 0 < n < m, as 2:4.")
    few = Cut(ELEMENT, largest, runs(m))
    return Regime(f"{n}:{m}", spatial=few, pointwise=few, linear=few, sparsity=1 - n / m)
