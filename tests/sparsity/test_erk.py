"""ERK: worked cases, the total that it keeps, and layers that fill up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import ERK

SHAPES = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.lists(st.integers(1, 64), min_size=2, max_size=4), min_size=1
)


def densities(shapes: Mapping[str, Sequence[int]], sparsity: float) -> dict[str, float]:
    parts = ERK().divide([tuple(shape) for shape in shapes.values()], sparsity)
    return {name: 1 - part for name, part in zip(shapes, parts, strict=True)}


def test_a_case_worked_by_hand() -> None:
    # Sizes 100 and 400, sums 20 and 40: eps = 0.5 * 500 / 60, kept 83.3 and 166.7.
    found = densities({"a": (10, 10), "b": (20, 20)}, 0.5)
    assert found == pytest.approx({"a": 0.8333333, "b": 0.4166667})


def test_a_layer_that_would_be_more_than_full_is_dense_and_the_others_pay() -> None:
    # At 80 % of 436, 87.2 are kept. eps = 87.2 / 52 would keep 20 of a's 36: not full. At 20 %, 348.8: a is full.
    shapes = {"a": (6, 6), "b": (20, 20)}
    assert densities(shapes, 0.8)["a"] == pytest.approx(87.2 / 52 * 12 / 36)
    assert densities(shapes, 0.2) == pytest.approx({"a": 1, "b": (348.8 - 36) / 400})


def test_the_kernel_counts_with_both_its_axes() -> None:
    found = densities({"wide": (64, 64, 3, 3), "narrow": (64, 64, 1, 1)}, 0.9)
    assert found["narrow"] / found["wide"] == pytest.approx((130 / 4096) / (134 / 36864))


@given(SHAPES, st.floats(0, 0.99))
def test_all_layers_together_keep_what_was_asked(shapes: dict[str, list[int]], sparsity: float) -> None:
    found = densities(shapes, sparsity)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    assert all(0 <= density <= 1 + 1e-12 for density in found.values())
    kept = sum(found[name] * size for name, size in sizes.items())
    assert kept == pytest.approx((1 - sparsity) * sum(sizes.values()), rel=1e-9)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, float("nan")])
def test_a_sparsity_out_of_range(sparsity: float) -> None:
    with pytest.raises(RegimeError, match="outside"):
        densities({"a": (4, 4)}, sparsity)


@pytest.mark.parametrize("shape", [(), (4, 0)])
def test_an_empty_weight(shape: tuple[int, ...]) -> None:
    with pytest.raises(RegimeError, match=r"ERK: .* of shapes \(\(.*\),\) holds nothing"):
        densities({"a": shape}, 0.5)
