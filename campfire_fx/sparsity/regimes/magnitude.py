"""The baselines: by magnitude, single weights, N of M of them, blocks of four filters, and whole filters."""

from __future__ import annotations

from dataclasses import replace

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.granularity import ELEMENT, FILTER, column_block
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.regimes.campfire import FINE, MAGNITUDE
from campfire_fx.sparsity.scope import WITHIN_LAYER, runs
from campfire_fx.sparsity.score import l2, largest
from campfire_fx.sparsity.selection import Cut


def unstructured() -> Regime:
    """Remove single weights, the smallest of each layer."""
    return Regime("unstructured", spatial=MAGNITUDE, pointwise=MAGNITUDE, linear=FINE)


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


def one_by_n(n: int = 4) -> Regime:
    """Remove blocks of n neighbouring filters by one weight of each, at any position: those of smallest L2 norm.

    MNN skips such blocks of four on phones and CPUs. The name is that of Lin et al. 2021 (arXiv 2105.14713), whose
    blocks are of whole kernels. By L2 norm: where the loss curves alike along all weights, what a block costs is the
    sum of their squares (LeCun et al. 1989). A last block of fewer filters is ranked by its root mean square; MNN
    computes such filters one by one, so that its zeros are skipped as well. In linear layers every n outputs keep a
    block.

    Raises:
        RegimeError: n is no whole number from 1 up.
    """
    n = plain(n)
    if type(n) is not int or n < 1:
        raise RegimeError(f"regime '1xN': blocks of {n!r} filters hold no weight. Give a whole number; MNN has 4.")
    blocks = Cut(column_block(n), l2, WITHIN_LAYER)
    return Regime(f"1x{n}", spatial=blocks, pointwise=blocks, linear=replace(blocks, guard=True))


def filters() -> Regime:
    """Remove the filters of smallest L2 norm in each convolution (StructADMM's filter-wise set, by magnitude)."""
    whole = Cut(FILTER, l2, WITHIN_LAYER)
    return Regime("filter", spatial=whole, pointwise=whole, linear=None)


ENTRIES = (
    RegimeEntry(
        name="unstructured",
        make=unstructured,
        does="prunes the smallest weights of each layer: the baseline",
        family="magnitude",
        granularity="weight",
        gains="weights",
        source="Zhu and Gupta 2017, arXiv 1710.01878, section 3, within each layer",
    ),
    RegimeEntry(
        name="filter",
        make=filters,
        does="prunes the filters with the smallest L2 norm in each convolution; linear layers stay dense",
        family="magnitude",
        granularity="filter",
        gains="channels",
        source="Zhang et al. 2018, arXiv 1807.11091 (its filter-wise set), by magnitude",
    ),
    RegimeEntry(
        name="n:m",
        make=n_of_m,
        example="2:4",
        does="keeps the n largest of every m weights along the input channels: the sparsity is 1 - n/m",
        family="pattern",
        granularity="weights in each run",
        gains="2:4",
        source="N:M sparsity by magnitude; 2:4 is the pattern of NVIDIA's sparse tensor cores",
    ),
    RegimeEntry(
        name="1x4",
        make=one_by_n,
        does="prunes the same weights in four neighbouring filters: the blocks with the smallest L2 norm of each layer",
        family="pattern",
        granularity="4 filters x 1 weight",
        gains="1x4",
        source="Elsen et al. 2020, arXiv 1911.09723 (its blocks of outputs), by L2 norm, at any position",
    ),
)
