"""Budgets: ERK by hand, and the redistribution by momentum."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campfire_fx.sparsity import ERK, ByMomentum, regime_named
from campfire_fx.sparsity.assignment import PrunableLayer, Request, assign

SHAPES = st.lists(
    st.tuples(st.integers(1, 64), st.integers(1, 64), st.sampled_from([1, 3, 5]), st.sampled_from([1, 3])),
    min_size=1,
    max_size=8,
)


class TestERK:
    def test_by_hand(self) -> None:
        # Sizes 576, 2304 and 160; sums 22, 38 and 26, which are densities times sizes but for eps.
        # Half of 3040 is 1520: eps = 1520 / 86 = 17.7, and the last one's 17.7 * 26 / 160 = 2.9 > 1: it stays dense.
        # Then eps = 1360 / 60 = 22.67; 22.67 * 22 / 576 = 0.866 and 22.67 * 38 / 2304 = 0.374.
        shapes = [(8, 8, 3, 3), (16, 16, 3, 3), (10, 16)]
        found = ERK().divide(shapes, 0.5)
        assert found == pytest.approx((1 - 1360 / 60 * 22 / 576, 1 - 1360 / 60 * 38 / 2304, 0.0))

    @given(SHAPES, st.sampled_from([0.0, 0.5, 0.8, 0.9, 0.99]))
    def test_all_layers_together_have_the_density_asked_for(
        self, shapes: list[tuple[int, ...]], sparsity: float
    ) -> None:
        parts = ERK().divide(shapes, sparsity)
        sizes = [math.prod(shape) for shape in shapes]
        assert all(0 <= part < 1 for part in parts)
        kept = sum((1 - part) * size for part, size in zip(parts, sizes, strict=True))
        dense = sum(size for part, size in zip(parts, sizes, strict=True) if part == 0)
        assert kept == pytest.approx((1 - sparsity) * sum(sizes)) or kept == dense


class TestByMomentum:
    def test_by_hand(self) -> None:
        # 200 of 1000 weights stay. Shares .1, .3, .6 give 20, 60, 120, and the last layer has 100: 20 are left over.
        assert ByMomentum().redistribute([1, 3, 6], [500, 400, 100], 0.8) == pytest.approx(
            (1 - 30 / 500, 1 - 70 / 400, 0.0)
        )

    def test_a_layer_that_would_be_nearly_full_is_full(self) -> None:
        assert ByMomentum().redistribute([1, 1], [1000, 100], 1 - 199 / 1100)[1] == 0

    @given(
        st.lists(st.tuples(st.floats(0, 10), st.integers(1, 5000)), min_size=1, max_size=9),
        st.sampled_from([0.5, 0.8, 0.95]),
    )
    def test_the_number_of_weights_is_the_one_asked_for(self, layers: list[tuple[float, int]], sparsity: float) -> None:
        means, sizes = zip(*layers, strict=True)
        if sum(means) <= 1e-6:
            return
        parts = ByMomentum().redistribute(means, sizes, sparsity)
        kept = [round((1 - part) * size) for part, size in zip(parts, sizes, strict=True)]
        assert all(1 <= count <= size for count, size in zip(kept, sizes, strict=True))
        wanted = (1 - sparsity) * sum(sizes)
        rounded = len(sizes) + sum(math.ceil(0.01 * size) for size in sizes)  # shares go up, and 99 % becomes all
        assert wanted - 1 <= sum(kept) <= wanted + rounded

    def test_before_the_first_step_all_are_as_sparse_as_asked(self) -> None:
        assert ByMomentum().divide([(4, 4), (8, 2)], 0.6) == (0.6, 0.6)


LAYERS = tuple(
    PrunableLayer(name, "Conv2d", math.prod(shape[2:]), len(shape) == 2, name == "stem", shape)
    for name, shape in {"stem": (8, 3, 3, 3), "conv": (64, 64, 3, 3), "point": (64, 64, 1, 1), "fc": (10, 64)}.items()
)


def parts(**wishes: object) -> dict[str, tuple[float, str]]:
    settings = Request(**{"regime": regime_named("swat-erk"), "sparsity": 0.8, "era": (0, 1)} | wishes)  # type: ignore[arg-type]
    return {a.name: (a.sparsity, a.reason) for a in assign(LAYERS, settings)}


def test_a_budget_is_divided_among_all_layers_with_the_stem() -> None:
    found = parts()
    assert found["stem"] == found["fc"] == (0.0, "ERK gives it all of its weights")
    sizes = {layer.name: math.prod(layer.shape) for layer in LAYERS}
    kept = sum((1 - found[name][0]) * size for name, size in sizes.items())
    assert kept == pytest.approx(0.2 * sum(sizes.values()))


def test_a_layer_with_a_sparsity_of_its_own_takes_no_part() -> None:
    found = parts(overrides={"conv": 0.95}, prune_stem=False)
    assert found["conv"] == (0.95, "") and found["stem"][1] == "it reads the model's input (prune_stem is off)"
    assert (1 - found["point"][0]) * 4096 + (1 - found["fc"][0]) * 640 == pytest.approx(0.2 * 4736)
