"""Groups of filters: which filters come together, which inputs they keep, and which layers take part."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from campfire_fx import RegimeError, sparsify
from campfire_fx.sparsity import FilterGroups, Goal, Polynomial, PrunableLayer, grouped, regime_named
from campfire_fx.sparsity.filter_sets import divide, number_of_sets
from campfire_fx.sparsity.regimes.grouped import Divisible


def planted(filters: int, inputs: int, groups: int, kept: int, noise: float, seed: int) -> tuple[Tensor, list[int]]:
    """A weight (K, C, 9) whose filters, in no order, need the inputs of their set; and the set of each."""
    generator = torch.Generator().manual_seed(seed)
    sets = (torch.arange(filters) % groups)[torch.randperm(filters, generator=generator)]
    strong = torch.stack([torch.randperm(inputs, generator=generator) < kept for _ in range(groups)])[sets]
    sizes = torch.where(strong, 1.0, noise).unsqueeze(-1)
    return torch.rand(filters, inputs, 9, generator=generator).add(0.5) * sizes, sets.tolist()


def patterns(mask: Tensor) -> list[tuple[bool, ...]]:
    return [tuple(row) for row in mask.any(-1).tolist()]


@given(groups=st.integers(2, 4), size=st.integers(2, 8), seed=st.integers(0, 9999))
def test_filters_that_need_the_same_inputs_come_together(groups: int, size: int, seed: int) -> None:
    weight, sets = planted(groups * size, 16, groups, 5, 0.02, seed)
    mask = FilterGroups(groups)(weight, torch.ones_like(weight, dtype=torch.bool), Goal(11 / 16, 11 / 16))
    needed = weight > 0.1
    wanted = [tuple(needed[k].any(-1).tolist()) for k in range(len(weight))]
    found = patterns(mask)
    assert sorted(found.count(pattern) for pattern in set(found)) == [found.count(found[0])] * len(set(found))
    right = sum(pattern == want for pattern, want in zip(found, wanted, strict=True))
    assert right == len(sets)


def test_planted_sets_are_found_whole() -> None:
    for seed in range(10):
        weight, sets = planted(64, 64, 4, 16, 0.3, seed)
        mask = FilterGroups(4)(weight, torch.ones_like(weight, dtype=torch.bool), Goal(0.75, 0.75))
        assert torch.equal(mask, weight >= 0.5) and len(set(zip(sets, patterns(mask), strict=True))) == 4


@given(
    filters=st.integers(2, 24),
    inputs=st.integers(2, 20),
    groups=st.integers(2, 8),
    final=st.floats(0.05, 0.97),
    seed=st.integers(0, 9999),
)
def test_through_an_era_sets_are_of_one_size_and_keep_as_many_inputs(
    filters: int, inputs: int, groups: int, final: float, seed: int
) -> None:
    rule, schedule = FilterGroups(groups), Polynomial(0, 5)
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(filters, inputs, 4, dtype=torch.bool)
    size = filters // number_of_sets(filters, groups)
    for epoch in range(6):
        weight = torch.randn(mask.shape, generator=generator) * mask  # as wild as no training is
        mask = mask & rule(weight, mask, Goal(final * schedule.fraction(epoch), final))
        found = patterns(mask)
        assert len({sum(pattern) for pattern in found}) == 1 and sum(found[0]) >= 1
        assert all(found.count(pattern) % size == 0 for pattern in found)
    dead = min(int(inputs * final + 0.5), inputs - 1)
    assert int(mask.sum()) == filters * (inputs - dead) * 4


def test_dividing_keeps_more_than_neighbours_do() -> None:
    needs = torch.rand(64, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64).square()

    def kept(sets: Tensor) -> float:
        totals = torch.stack([needs[sets == one].sum(0) for one in range(4)])
        return float(totals.sort(1, descending=True).values[:, :12].sum())

    sets = divide(needs, needs > 0, 4, 12)
    assert sets.bincount().tolist() == [16] * 4
    assert kept(sets) > 1.05 * kept(torch.arange(64) // 16)


@pytest.mark.parametrize(
    ("filters", "groups", "sets"), [(64, 4, 4), (6, 4, 3), (10, 4, 2), (7, 4, 1), (7, 8, 7), (2, 4, 2), (1, 4, 1)]
)
def test_the_largest_number_of_sets_that_divides(filters: int, groups: int, sets: int) -> None:
    assert number_of_sets(filters, groups) == sets


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ({"shape": (64, 32, 3, 3)}, ""),
        ({"shape": (6, 8, 3, 3)}, "3 sets, since 6 filters do not divide by more"),
        ({"shape": (7, 8, 3, 3)}, "7 filters of 8 inputs do not divide into sets of equal size"),
        ({"shape": (8, 1, 3, 3), "groups": 8}, "its filters are in groups already"),
        ({"shape": (8, 1, 3, 3)}, "8 filters of 1 inputs do not divide"),
        ({"shape": (8, 8, 3, 3), "operation": "ConvTranspose2d"}, "transposed convolutions stay dense"),
    ],
)
def test_which_layers_take_part(layer: dict[str, Any], says: str) -> None:
    fit = Divisible(4)(
        PrunableLayer(**{"name": "", "operation": "Conv2d", "kernel": 9, "linear": False, "stem": False} | layer)
    )
    assert fit.remark.startswith(says) and fit.takes_part is (not says or "sets, since" in says)


def test_the_report_says_what_stays_dense_and_where_there_are_fewer_sets() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 12, 3), nn.Flatten(),
        nn.Linear(12, 4),
    )  # fmt: skip
    sparse = sparsify(net, "grouped", groups=4, sparsity=0.5, example_inputs=torch.randn(1, 3, 7, 7)).finalize()
    text = " ".join(str(sparse.report()).split())
    for sentence in (
        "Left dense: 1: its filters are in groups already.",
        "Note: 2: 3 sets, since 6 filters do not divide by more.",
        "Left dense: 5: regime 'grouped' leaves linear layers dense.",
    ):
        assert sentence in text
    assert [row.zeros / row.weights for row in sparse.sparsity().layers] == [0, 0, 0.5, 0.5, 0]


@pytest.mark.parametrize("groups", [0, 1, -4, 2.5, True, "four"])
def test_what_is_no_number_of_sets_is_refused(groups: Any) -> None:
    with pytest.raises(RegimeError, match=r"groups: .* is no number of sets. Give a whole number from 2 up"):
        grouped(groups)


def test_groups_of_a_regime_that_takes_none_are_refused() -> None:
    with pytest.raises(RegimeError, match="groups: regime 'combined' takes none. Use it with 'grouped' by name"):
        regime_named("combined", groups=4)
    assert regime_named("grouped", groups=8) == grouped(8) and regime_named("grouped") == grouped(4)
