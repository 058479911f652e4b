"""Top-K: the exact rule, and the threshold that is used again."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import ELEMENT, KERNEL, DenseWeights, Goal, TopK, l1, largest, regime_named
from campfire_fx.sparsity.topk import at_most

SPARSITIES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95])


@given(st.integers(1, 10_000), st.integers(0, 99))
def test_k_is_the_whole_number_above(size: int, percent: int) -> None:
    assert size - at_most(size, percent / 100) == -((percent - 100) * size // 100)


@given(st.integers(1, 5), st.integers(1, 6), SPARSITIES, st.booleans())
def test_the_rule_keeps_k_exactly_and_the_threshold_its_ties_too(k: int, c: int, sparsity: float, ties: bool) -> None:
    torch.manual_seed(10 * k + c)
    weight = torch.randint(-2, 3, (k, c, 9)).float() if ties else torch.randn(k, c, 9)
    everything = torch.ones_like(weight, dtype=torch.bool)
    for rule, groups in ((TopK(ELEMENT, largest), k * c * 9), (TopK(KERNEL, l1), k * c)):
        wanted = math.ceil(round((1 - sparsity) * groups, 9)) * (weight.numel() // groups)
        exact = rule(weight, everything, Goal(sparsity, sparsity))
        above = rule.above(weight, rule.threshold(weight, sparsity))
        assert int(exact.sum()) == wanted
        assert not (exact & ~above).any()  # nothing that the rule keeps is below the threshold
        assert int(above.sum()) == wanted or ties


def test_kernels_are_kept_whole_by_their_sum() -> None:
    weight = torch.tensor([[[3.0, 0.0], [2.0, 2.0]], [[0.0, 1.0], [-1.5, 0.0]]])
    rule = TopK(KERNEL, l1)
    assert rule.above(weight, rule.threshold(weight, 0.75)).tolist() == [[[0, 0], [1, 1]], [[0, 0], [0, 0]]]
    assert rule.above(weight, rule.threshold(weight, 0.5)).tolist() == [[[1, 1], [1, 1]], [[0, 0], [0, 0]]]


def test_an_old_threshold_lets_the_number_float() -> None:
    rule, weight = TopK(ELEMENT, largest), torch.arange(1.0, 11).view(1, 10, 1)
    threshold = rule.threshold(weight, 0.5)
    assert [int(rule.above(scale * weight, threshold).sum()) for scale in (0.5, 1, 2)] == [0, 5, 8]


@pytest.mark.parametrize("period", [0, -1, 1.5, True, "10"])
def test_a_period_is_a_number_of_steps(period: object) -> None:
    with pytest.raises(RegimeError, match=r"period: .* is no number of steps. Give a whole number from 1 up"):
        DenseWeights(period)  # type: ignore[arg-type]


def test_the_swat_regimes_are_these_compositions() -> None:
    for name in ("swat-u", "swat-erk", "swat-m"):
        regime = regime_named(name, period=7)
        assert repr(regime.spatial) == repr(regime.pointwise) == "TopK(element, largest)"
        assert repr(regime.linear) == "TopK(element, largest, exact in every step)"
        assert regime.master == DenseWeights(7) and regime.stem == (name != "swat-u")
    structured = regime_named("swat-structured")
    assert repr(structured.spatial) == "TopK(kernel, l1, exact in every step)" and structured.master == DenseWeights(10)


def test_a_period_is_for_regimes_with_dense_master_weights() -> None:
    with pytest.raises(RegimeError, match=r"period: regime 'combined' takes none. Use it with 'swat-u' or"):
        regime_named("combined", period=5)
