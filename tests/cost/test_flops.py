"""FLOP accounting: worked cases, bounds, true masks, and errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import campfire_fx
from campfire_fx.base.errors import CostError, RegimeError
from campfire_fx.cost import Density, count_flops, mask_densities, swat_densities
from tests.cost.worked import MACS, Worked, worked

WORK = worked()
FRACTION = st.floats(0, 1)
DENSITIES = st.fixed_dictionaries({name: st.builds(Density, FRACTION, FRACTION, FRACTION) for name in MACS})


def test_a_case_worked_by_hand() -> None:
    flops = count_flops(WORK, {"grouped": Density(0.5, 0.25), "fc": Density(0.2, 1.0, 0.2)})
    stem, grouped, fc = flops.layers
    assert (stem.forward, stem.training) == (3456, 3 * 3456)
    assert (grouped.forward, grouped.input_gradient, grouped.weight_gradient) == (128, 128, 64)
    assert (fc.forward, fc.input_gradient, fc.weight_gradient) == (4, 4, 4)
    assert flops.dense_inference == 3732 and flops.inference == 3456 + 128 + 4
    assert flops.training == 3 * 3456 + 320 + 12
    assert flops.inference_reduction == pytest.approx(144 / 3732)
    assert flops.training_reduction == pytest.approx(1 - 10700 / 11196)


@given(DENSITIES, st.floats(0, 2))
def test_what_is_saved_lies_between_nothing_and_the_zeros(densities: dict[str, Density], overhead: float) -> None:
    plain = count_flops(WORK, densities)
    flops = count_flops(WORK, densities, dense_overhead=overhead)
    most = 1 - min(d for it in densities.values() for d in (it.weights, it.activations * it.weight_gradient))
    assert -1e-9 <= flops.training_reduction <= most + 1e-9
    assert flops.training_reduction == pytest.approx(plain.training_reduction / (1 + overhead), abs=1e-9)
    assert flops.inference_reduction == plain.inference_reduction


@given(st.floats(0, 0.98), st.floats(0, 0.98), st.sampled_from(["swat-u", "swat-erk", "swat-structured"]))
def test_more_sparsity_never_saves_less(one: float, other: float, method: str) -> None:
    low, high = (count_flops(WORK, swat_densities(method, s, WORK.layers)) for s in (min(one, other), max(one, other)))
    assert low.training_reduction <= high.training_reduction + 1e-9
    assert low.inference_reduction <= high.inference_reduction + 1e-9


def test_uniform_variants_spare_the_stem_alone() -> None:
    for method in ("swat-u", "swat-structured"):
        assert swat_densities(method, 0.75, WORK.layers) == {
            "stem": Density(), "grouped": Density(0.25, 0.25), "fc": Density(0.25, 0.25),
        }  # fmt: skip


def test_true_masks() -> None:
    sparse = campfire_fx.sparsify(Worked(), "window", sparsity=0.5, example_inputs=torch.zeros(1, 3, 8, 8)).finalize()
    found = mask_densities(sparse)
    for layer in sparse.sparsity().layers:
        density = found[layer.name]
        assert density.weights == density.weight_gradient == pytest.approx(1 - layer.true)
        assert density.activations == 1
    assert mask_densities(sparse, dead_weights_learn=True)["fc"].weight_gradient == 1
    named = {layer.name: found[layer.name] for layer in WORK.layers}
    assert count_flops(WORK, named).training_reduction > 0


@pytest.mark.parametrize(("value", "where"), [(1.1, "weights"), (-0.1, "activations"), (float("nan"), "weights")])
def test_a_density_out_of_range(value: float, where: str) -> None:
    with pytest.raises(RegimeError, match=where):
        Density(**{where: value})


@pytest.mark.parametrize(("method", "sparsity", "told"), [
    ("swat-m", 0.8, "outcome of training"), ("swat-x", 0.8, "swat-erk"), ("swat-u", 1.0, "outside"),
    ("swat-erk", -0.1, "outside"),
])  # fmt: skip
def test_methods_that_cannot_be(method: str, sparsity: float, told: str) -> None:
    with pytest.raises(RegimeError, match=told):
        swat_densities(method, sparsity, WORK.layers)


def test_a_density_of_no_layer() -> None:
    with pytest.raises(RegimeError, match="no layer 'unused'"):
        count_flops(WORK, {"unused": Density(0.5)})


@pytest.mark.parametrize("overhead", [-0.1, float("nan")])
def test_an_overhead_below_nothing(overhead: float) -> None:
    with pytest.raises(CostError, match="dense_overhead"):
        count_flops(WORK, {}, dense_overhead=overhead)
