"""How many weights are zero in the end: what every regime promises of each layer, by arithmetic of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from fractions import Fraction
from itertools import combinations
from math import ceil, floor, prod

import pytest

from campfire_fx.sparsity import ERK, regime_named
from campfire_fx.training.model import SparseModel
from tests.sparse_training import layer
from tests.training.every_regime import NAMES, trained

# (filters, channels, positions, sparsity) -> the numbers of zeros that keep the promise, mostly a single one. In
# fractions, since 0.7 of 45 is a half, and not what floats make of it.
Law = Callable[[int, int, int, Fraction], Collection[int]]
SPARSITIES = (Fraction(45, 100), Fraction(70, 100), Fraction(97, 100))  # at the last, nearest would be all filters


def nearest(groups: int, s: Fraction, stay: int = 1) -> int:
    return min(floor(groups * s + Fraction(1, 2)), groups - stay)


def cut(weights: Callable[[int, int, int], int]) -> Law:
    """Whole groups of so many weights, the nearest number of them; one always stays."""
    return lambda k, c, p, s: {nearest(k * c * p // weights(k, c, p), s) * weights(k, c, p)}


def top(weights: Callable[[int, int, int], int]) -> Law:
    """SWAT's: k = ceil((1 - s) n) groups are kept."""
    return lambda k, c, p, s: {k * c * p - ceil((1 - s) * (k * c * p // weights(k, c, p))) * weights(k, c, p)}


def a_weight(_k: int, _c: int, _p: int) -> int:
    return 1


def a_kernel(_k: int, _c: int, p: int) -> int:
    return p


def a_filter(_k: int, c: int, p: int) -> int:
    return c * p


def a_channel(k: int, _c: int, p: int) -> int:
    return k * p


def a_column(k: int, _c: int, _p: int) -> int:
    return k


def dense(_k: int, _c: int, _p: int, _s: Fraction) -> Collection[int]:
    return {0}


def fine(k: int, c: int, _p: int, s: Fraction) -> Collection[int]:
    """Every output keeps a weight."""
    return {nearest(k * c, s, stay=k)}


def blocks(k: int, c: int, _p: int, s: Fraction) -> Collection[int]:
    """As many blocks of 5 x 5, whichever: those at the edge hold less. Every output keeps one."""
    sizes = [min(5, k - row) * min(5, c - column) for row in range(0, k, 5) for column in range(0, c, 5)]
    return {sum(dead) for dead in combinations(sizes, nearest(len(sizes), s, stay=ceil(k / 5)))}


def fours(k: int, c: int, p: int, s: Fraction, stay: int = 1) -> Collection[int]:
    """As many blocks of four filters by a weight, whichever: those of the last filters may hold less."""
    rows = [min(4, k - row) for row in range(0, k, 4)]
    dead = nearest(len(rows) * c * p, s, stay=stay)
    last = range(max(0, dead - (len(rows) - 1) * c * p), min(dead, c * p) + 1)
    return {4 * (dead - n) + rows[-1] * n for n in last}


def fours_in_rows(k: int, c: int, _p: int, s: Fraction) -> Collection[int]:
    """Every four outputs keep one."""
    return fours(k, c, 1, s, stay=ceil(k / 4))


def two_of_four(k: int, c: int, p: int, _s: Fraction) -> Collection[int]:
    """Whatever is asked for; a last run that is not full stays whole."""
    return {2 * (c // 4) * k * p}


def ninths(k: int, c: int, p: int, s: Fraction) -> Collection[int]:
    """As many in every kernel, more than s of it; one weight stays."""
    return {k * c * min(floor(p * s) + 1, p - 1)}


def windows_then_kernels(k: int, c: int, p: int, s: Fraction) -> Collection[int]:
    """Met to less than one kernel, of which the window has left so many weights at most."""
    met = ceil(s * k * c * p)
    return range(met, met + p - floor(Fraction(8, 10) * s * p))


def columns_then_filters(k: int, c: int, p: int, s: Fraction) -> Collection[int]:
    """Columns for 0.7 of the sparsity, then filters for what the columns that are left still hold too much."""
    columns = c * p - nearest(c * p, Fraction(7, 10) * s)
    filters = k - nearest(k, 1 - (1 - s) / Fraction(columns, c * p))
    return {k * c * p - columns * filters}


def inputs_of_sets(k: int, c: int, p: int, s: Fraction) -> Collection[int]:
    """Of every set of filters as many inputs: of the layer as many in all, however many sets there are."""
    return {nearest(c, s) * k * p}


# Of convolutions with windows, 1x1 convolutions and linear layers. Those with budgets are below.
PROMISES: dict[str, tuple[Law, Law, Law]] = {
    "1x4": (fours, fours, fours_in_rows),
    "2:4": (two_of_four, two_of_four, two_of_four),
    "admm-channel": (cut(a_channel), cut(a_channel), dense),
    "admm-column": (cut(a_column), cut(a_column), dense),
    "admm-column-filter": (columns_then_filters, columns_then_filters, dense),
    "admm-filter": (cut(a_filter), cut(a_filter), dense),
    "admm-kernel": (cut(a_kernel), cut(a_kernel), dense),
    "admm-unstructured": (cut(a_weight), cut(a_weight), cut(a_weight)),
    "block-fc": (dense, dense, blocks),
    "ck": (cut(a_kernel), cut(a_kernel), fine),
    "combined": (windows_then_kernels, cut(a_weight), fine),
    "deepr": (top(a_weight), top(a_weight), top(a_weight)),
    "filter": (cut(a_filter), cut(a_filter), dense),
    "gradual-magnitude": (cut(a_weight), cut(a_weight), cut(a_weight)),
    "fine-fc": (dense, dense, fine),
    "grouped": (inputs_of_sets, inputs_of_sets, dense),
    "inter-epoch": (cut(a_weight), cut(a_weight), fine),  # windows make up for the kernels, to the weight
    "sr-ste": (two_of_four, two_of_four, two_of_four),
    "swat-structured": (top(a_kernel), top(a_weight), top(a_weight)),
    "swat-u": (top(a_weight), top(a_weight), top(a_weight)),
    "unstructured": (cut(a_weight), cut(a_weight), fine),
    "window": (ninths, cut(a_weight), fine),
}
# What whole channels leave is promised in costs, not in weights: see test_channel.py.
OWN = [name for name in NAMES if not name.startswith("channel") and not regime_named(name).method.couples]
BUDGETS = {name: regime_named(name).budget for name in OWN}
WITH_TESTS_OF_THEIR_OWN = [
    "dsr",
    "dsr-kernel",
    "srigl",
]  # test_dynamic.py: counts move between layers, or neurons die
DIVIDED = [
    n for n, budget in BUDGETS.items() if budget is not None and n not in WITH_TESTS_OF_THEIR_OWN
]  # among all layers, the stem too
TOGETHER = ["deep-compression", "global-magnitude", "lamp", "lottery-ticket", "snip", "grasp"]  # with the stem or not
sparsities = pytest.mark.parametrize("sparsity", SPARSITIES, ids=str)


def ended(regime: str, sparsity: Fraction) -> tuple[SparseModel, dict[str, int]]:
    """A trained model, and how many weights of each of its layers are zero for good."""
    model = trained(regime, sparsity=float(sparsity))[0].finalize()
    dead = {row.name: ~layer(model, row.name).mask for row in model.sparsity().layers}
    assert not any(layer(model, name).weight[places].any() for name, places in dead.items())
    return model, {name: int(places.sum()) for name, places in dead.items()}


def test_every_regime_promises_something() -> None:
    assert sorted([*PROMISES, *DIVIDED, *TOGETHER, *WITH_TESTS_OF_THEIR_OWN]) == OWN


@sparsities
@pytest.mark.parametrize("regime", PROMISES)
def test_as_many_weights_are_zero_as_promised(regime: str, sparsity: Fraction) -> None:
    model, zeros = ended(regime, sparsity)
    assert zeros.pop("stem") == 0
    for name, found in zeros.items():
        k, c, *window = model.get_parameter(f"{name}.weight").shape
        law = PROMISES[regime][2 if not window else 1 if prod(window) == 1 else 0]
        assert found in law(k, c, prod(window), sparsity), name


@sparsities
@pytest.mark.parametrize("regime", TOGETHER)
def test_what_is_ranked_together_is_as_sparse_together(regime: str, sparsity: Fraction) -> None:
    model, zeros = ended(regime, sparsity)
    if not regime_named(regime).stem:
        assert zeros.pop("stem") == 0
    weights = sum(model.get_parameter(f"{name}.weight").numel() for name in zeros)
    assert sum(zeros.values()) == ceil(sparsity * weights)


@sparsities
@pytest.mark.parametrize("regime", DIVIDED)
def test_a_budget_is_met_to_less_than_a_weight_per_layer(regime: str, sparsity: Fraction) -> None:
    model, zeros = ended(regime, sparsity)
    weights = sum(model.get_parameter(f"{name}.weight").numel() for name in zeros)
    over = weights - sum(zeros.values()) - (1 - sparsity) * weights
    assert 0 <= over < len(zeros)


@sparsities
@pytest.mark.parametrize("regime", [name for name in DIVIDED if BUDGETS[name] == ERK()])
def test_erk_divides_by_the_sum_of_the_sizes(regime: str, sparsity: Fraction) -> None:
    """One factor for all, times K + C + R + S, rounded up; who has less is dense, and leaves the others more."""
    model, zeros = ended(regime, sparsity)
    shapes = {name: model.get_parameter(f"{name}.weight").shape for name in zeros}
    sparse = [name for name in zeros if zeros[name]]
    kept = (1 - sparsity) * sum(map(prod, shapes.values())) - sum(prod(shapes[n]) for n in zeros if n not in sparse)
    factor = kept / sum(sum(shapes[name]) for name in sparse)
    for name, shape in shapes.items():
        assert zeros[name] == prod(shape) - min(prod(shape), ceil(factor * sum(shape))), name
