"""The accelerator estimate: a layer worked by hand, its bounds, other kinds of layers, and errors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from accelerator import BACKWARD, FORWARD, TRAINING, Accelerator, estimate
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from campfire_fx.base.errors import CostError
from campfire_fx.cost import Work, work_of
from tests.cost.worked import worked

WORK = worked()
FAST = Accelerator(rows=4, columns=2, tile=9, scan=10**9, bandwidth_gbs=1e9, batch=2)


def one_layer(layer: nn.Module, *shape: int) -> Work:
    work = work_of(layer, (torch.zeros(shape),))
    return replace(work, layers=tuple(replace(it, name="layer", stem=False) for it in work.layers))


def test_a_layer_worked_by_hand() -> None:
    work = one_layer(nn.Conv2d(2, 2, 3, padding=1, bias=False), 1, 2, 4, 4)
    mask = torch.zeros(2, 2, 3, 3, dtype=torch.bool)
    mask[0, 0] = True  # one filter of two lives, and by one of its kernels
    found = estimate(work, {"layer": mask}, FAST)
    (layer,) = found.layers
    forward = layer.passes["forward"]
    # 2 samples x 36 weights x 16 positions. Barriers after each kernel: 9, then 0, of 9 and 9.
    assert (forward.macs, forward.kept_macs, forward.positions) == (1152, 288, pytest.approx(576))
    # x and y of 64 values, w of 36; sparse: one kernel's values and four bits.
    assert (forward.dense_bytes, forward.sparse_bytes) == (2 * (64 + 36 + 64), 128 + 18 + 0.5 + 128)
    assert found.ideal_speedup(FORWARD) == 4
    assert found.speedup(FORWARD) == pytest.approx(2)
    assert found.speedup(("weight gradient",)) == 1
    assert found.speedup(BACKWARD) == pytest.approx(4 / 3)


def test_slow_memory_takes_over() -> None:
    work = one_layer(nn.Conv2d(2, 2, 3, padding=1, bias=False), 1, 2, 4, 4)
    mask = torch.zeros(2, 2, 3, 3, dtype=torch.bool)
    mask[0, 0] = True
    slow = replace(FAST, bandwidth_gbs=1e-3)
    assert estimate(work, {"layer": mask}, slow).speedup(FORWARD) == pytest.approx(328 / 274.5)


def test_the_input_gradient_is_balanced_over_channels() -> None:
    work = one_layer(nn.Conv2d(4, 4, 1, bias=False), 1, 4, 4, 4)
    mask = torch.zeros(4, 4, 1, 1, dtype=torch.bool)
    mask[0] = True  # one filter: all its work is one row's in the forward pass, and one for each row backward
    found = estimate(work, {"layer": mask}, FAST)
    assert found.compute_speedup(FORWARD) == pytest.approx(1)
    assert found.compute_speedup(("input gradient",)) == pytest.approx(4)


@pytest.mark.parametrize("transposed", [False, True])
def test_grouped_and_transposed_layers(transposed: bool) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(4, 8, 2, groups=2, bias=False)
    mask = torch.zeros(layer.weight.shape, dtype=torch.bool)
    filters = mask.view(2, 2, 4, 4).transpose(1, 2) if transposed else mask.view(2, 4, 2, 4)
    filters[:, :, 0] = True  # of each group the first channel
    machine = replace(FAST, rows=8, tile=4)
    found = estimate(one_layer(layer, 1, 4, 5, 5), {"layer": mask}, machine)
    assert found.ideal_speedup(FORWARD) == 2
    assert found.compute_speedup(FORWARD) == pytest.approx(2)  # every filter has the same load, tile for tile
    assert found.compute_speedup(("input gradient",)) == pytest.approx(
        1
    )  # of the channels two have all and two nothing


def test_activations_by_mask_and_by_chance() -> None:
    work = one_layer(nn.Conv2d(2, 2, 1, bias=False), 1, 2, 4, 4)
    read = torch.zeros(3, 2, 4, 4, dtype=torch.bool)
    read[:, 0] = True  # one channel whole: the other row waits for it
    whole = estimate(work, {}, FAST, activations={"layer": read})
    assert whole.ideal_speedup(("weight gradient",)) == 2
    assert whole.compute_speedup(("weight gradient",)) == pytest.approx(1)
    spread = estimate(work, {}, replace(FAST, position_rows=True), activations={"layer": read})
    assert spread.compute_speedup(("weight gradient",)) == pytest.approx(2)  # every position keeps one of two
    chance = estimate(work, {}, FAST, activations={"layer": 0.5})
    assert 1 < chance.compute_speedup(("weight gradient",)) < 2
    assert chance.compute_speedup(FORWARD) == pytest.approx(1)


def test_the_stem_has_no_input_gradient_unless_it_is_asked_for() -> None:
    stem = estimate(WORK, {}, FAST).layers[0]
    assert stem.name == "stem" and set(stem.passes) == {"forward", "weight gradient"}
    asked = estimate(WORK, {}, replace(FAST, stem_input_gradient=True)).layers[0]
    assert set(asked.passes) == set(TRAINING)


def test_a_dense_model_gains_nothing() -> None:
    found = estimate(WORK, {})
    assert found.speedup() == found.compute_speedup() == found.ideal_speedup() == pytest.approx(1)


MACHINES = st.builds(
    Accelerator,
    rows=st.integers(1, 8),
    columns=st.integers(1, 8),
    tile=st.integers(1, 64),
    scan=st.integers(1, 16),
    bandwidth_gbs=st.floats(0.01, 1000),
    value_bits=st.sampled_from([8, 16, 32]),
    batch=st.integers(1, 4),
    position_rows=st.booleans(),
)


@settings(max_examples=50)
@given(MACHINES, st.integers(0, 2**31), st.floats(0.05, 1))
def test_no_speedup_above_one_over_the_density(machine: Accelerator, seed: int, read: float) -> None:
    made = torch.Generator().manual_seed(seed)
    masks = {it.name: torch.rand(it.weight, generator=made) < read for it in WORK.layers}
    masks = {name: mask if mask.any() else ~mask for name, mask in masks.items()}
    found = estimate(WORK, masks, machine, activations={it.name: read for it in WORK.layers})
    least = min(read, *(float(mask.double().mean()) for mask in masks.values()))
    for passes in (FORWARD, BACKWARD, TRAINING):
        assert found.speedup(passes) <= 1 / least + 1e-9
        assert found.compute_speedup(passes) <= min(found.ideal_speedup(passes), machine.scan) + 1e-9
    assert found.compute_speedup() >= 1 - 1e-9


@settings(max_examples=30)
@given(MACHINES, st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1))
def test_fewer_weights_are_never_slower_to_compute(machine: Accelerator, seed: int, one: float, other: float) -> None:
    made = torch.Generator().manual_seed(seed)
    scores = {it.name: torch.rand(it.weight, generator=made) for it in WORK.layers}
    few, many = (
        estimate(WORK, {k: v < d for k, v in scores.items()}, machine) for d in (min(one, other), max(one, other))
    )
    for passes in (FORWARD, BACKWARD):
        assert few.compute_speedup(passes) >= many.compute_speedup(passes) - 1e-9


@pytest.mark.parametrize(("masks", "activations", "told"), [
    ({"nowhere": torch.ones(1)}, {}, "no layer 'nowhere'"),
    ({}, {"nowhere": 0.5}, "no layer 'nowhere'"),
    ({"fc": torch.ones(4, 5)}, {}, "layer 'fc' has a weight of"),
    ({}, {"fc": 1.5}, "layer 'fc' is given 1.5"),
    ({}, {"fc": torch.ones(4)}, "layer 'fc' have shape"),
])  # fmt: skip
def test_what_does_not_fit(masks, activations, told: str) -> None:
    with pytest.raises(CostError, match=told):
        estimate(WORK, masks, activations=activations)


@pytest.mark.parametrize(("name", "value"), [
    ("rows", 0), ("tile", 1.5), ("scan", True), ("clock_ghz", 0.0), ("bandwidth_gbs", float("nan")), ("batch", -1),
    ("value_bits", "16"),
])  # fmt: skip
def test_machines_that_cannot_be(name: str, value: object) -> None:
    with pytest.raises(CostError, match=name):
        Accelerator(**{name: value})


def test_a_pass_that_is_none() -> None:
    with pytest.raises(CostError, match="no pass"):
        estimate(WORK, {}).speedup(("sideways",))
