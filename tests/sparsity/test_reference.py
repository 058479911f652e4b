"""Every regime against a reference of its own, written from the paper's text: the same masks, weight by weight."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from campfire_fx.sparsity import WITHIN_CHANNEL, Goal, Rule, regime_named
from campfire_fx.sparsity.regimes.campfire import block_fc, ck, combined, window
from campfire_fx.sparsity.regimes.grouped import grouped
from campfire_fx.sparsity.regimes.magnitude import n_of_m, one_by_n
from tests.sparsity import reference
from tests.sparsity.reference import Mask, Weight

Reference = Callable[[Weight, Mask, Fraction, Fraction], Mask]
SPATIAL = st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from([2, 3, 9]))
FILTERS = st.tuples(st.integers(1, 12), st.integers(1, 7), st.sampled_from([1, 2]))
LINEAR = st.tuples(st.integers(1, 13), st.integers(1, 12), st.just(1))


def plain(mask: Callable[..., Mask]) -> Reference:
    return lambda weight, so_far, s, _final: mask(weight, so_far, s)


CASES: dict[str, tuple[Rule | None, Reference, st.SearchStrategy[tuple[int, int, int]]]] = {
    "window": (window().spatial, plain(reference.window), SPATIAL),
    "window-cap-1": (window(1).spatial, plain(partial(reference.window, cap=1)), SPATIAL),
    "window-cap-2": (window(2).spatial, plain(partial(reference.window, cap=2)), SPATIAL),
    "ck": (ck().spatial, plain(reference.ck), SPATIAL),
    "ck-pointwise": (ck().pointwise, plain(reference.ck), LINEAR),
    "ck-channel": (ck(WITHIN_CHANNEL).spatial, plain(partial(reference.ck, by_channel=True)), SPATIAL),
    "combined": (combined().spatial, plain(reference.combined), SPATIAL),
    "combined-cap": (combined(cap=2).spatial, plain(partial(reference.combined, cap=2)), SPATIAL),
    "combined-channel": (
        combined(scope=WITHIN_CHANNEL).spatial,
        plain(partial(reference.combined, by_channel=True)),
        SPATIAL,
    ),
    "combined-pointwise": (combined().pointwise, plain(reference.unstructured), LINEAR),
    "inter-epoch": (regime_named("inter-epoch").spatial, reference.inter_epoch, SPATIAL),
    "fine-fc": (regime_named("fine-fc").linear, plain(reference.fine_fc), LINEAR),
    "block-fc": (block_fc().linear, plain(reference.block_fc), LINEAR),
    "block-fc-2": (block_fc(2).linear, plain(partial(reference.block_fc, n=2)), LINEAR),
    "2:4": (n_of_m(2, 4).linear, plain(partial(reference.n_of_m, m=4)), LINEAR),
    "1:2": (n_of_m(1, 2).spatial, plain(partial(reference.n_of_m, m=2)), SPATIAL),
    "1x4": (regime_named("1x4").spatial, plain(reference.one_by_n), SPATIAL),
    "1x4-linear": (regime_named("1x4").linear, plain(partial(reference.one_by_n, linear=True)), LINEAR),
    "1x3": (one_by_n(3).pointwise, plain(partial(reference.one_by_n, n=3)), LINEAR),
    "filter": (regime_named("filter").spatial, plain(reference.filters), SPATIAL),
    "grouped": (grouped().spatial, reference.grouped, FILTERS),
    "grouped-2": (grouped(2).pointwise, partial(reference.grouped, groups=2), FILTERS),
    "unstructured": (regime_named("unstructured").spatial, plain(reference.unstructured), SPATIAL),
}


@pytest.mark.parametrize("name", CASES)
@given(data=st.data(), seed=st.integers(0, 2**31), ties=st.booleans())
@settings(max_examples=25)
def test_masks_are_those_of_the_papers_text(name: str, data: st.DataObject, seed: int, ties: bool) -> None:
    """Through an era: the threshold rises twice, and the weights that live move in between."""
    rule, expected, shapes = CASES[name]
    assert rule is not None
    shape = data.draw(shapes)
    final = data.draw(st.integers(1, 99).map(lambda percent: Fraction(percent, 100)))
    early = data.draw(st.integers(0, 100).map(lambda percent: final * percent / 100))
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(shape, dtype=torch.bool)
    for due in (early, final):
        weight = torch.randint(-3 if ties else -999, 4 if ties else 1000, shape, generator=generator).double() / 4
        weight = weight * mask
        ours = mask & rule(weight, mask, Goal(float(due), float(final)))
        assert ours.tolist() == expected(weight.abs().tolist(), mask.tolist(), due, final)
        mask = ours


def test_the_reference_knows_a_case_worked_out_by_hand() -> None:
    """Two filters of two kernels of three weights."""
    weight = [[[1.0, 2.0, 9.0], [5.0, 6.0, 7.0]], [[3.0, 4.0, 8.0], [10.0, 11.0, 12.0]]]
    whole = [[[True] * 3 for _ in range(2)] for _ in range(2)]
    assert reference.close(weight, whole, reference.kernels_of(weight), Fraction(6, 5)) == [
        [[False, False, True], [False, True, True]],  # the odd one: 0.2 of four kernels is one, and 2 is the smallest
        [[False, True, True], [False, True, True]],
    ]
    half = Fraction(1, 2)
    kept = reference.combined(weight, whole, half)
    # Seven are left and six allowed: the kernel of the smallest maximum, 5 6 7, goes, and leaves five.
    assert kept[0] == [[False, False, True], [False, False, False]]
    assert kept[1] == [[False, True, True], [False, True, True]]
    gone = [[not any(kernel) for kernel in filters] for filters in reference.ck(weight, whole, half)]
    assert gone == [[False, True], [True, False]]  # of the largest weights 9, 7, 8, 12 the two smallest
