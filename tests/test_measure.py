"""Parameters, bytes, MACs and latency."""

from __future__ import annotations

import torch
from torch import nn

import campfire_fx
from campfire_fx.measure import latencies, macs, one_sample, parameters, size_bytes
from tests.report.small import Small

IMAGE = torch.randn(2, 3, 16, 16)


def test_macs_are_those_of_the_formula() -> None:
    found = macs(Small(), (IMAGE,))
    places = 2 * 16 * 16
    expected = {
        "stem": places * 8 * 3 * 9,
        "inner": places * 6 * 8 * 9,
        "outer": places * 8 * 6,
        "head": 2 * 8 * 5,
    }
    assert found.per_layer == expected
    assert found.total == sum(expected.values())
    assert any("batch_norm" in name for name in found.not_counted)


def test_macs_of_a_model_that_decides_by_values() -> None:
    class Decides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) if float(x.sum()) < 1e9 else x

    assert macs(Decides(), (IMAGE,)).total == 2 * 16 * 16 * 12


def test_shared_parameters_count_once() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, layer)
    assert parameters(model) == 20
    assert size_bytes(model) == 80


def test_masks_are_no_weight() -> None:
    sparse = campfire_fx.sparsify(Small(), example_inputs=torch.randn(1, 3, 16, 16))
    assert size_bytes(sparse) == size_bytes(Small())


def test_latencies_leave_modes_alone() -> None:
    models = {"a": Small().train(), "b": Small().eval()}
    found = latencies(models, (IMAGE,), repeats=3)
    assert models["a"].training and not models["b"].training
    assert all(t.repeats == 3 and 0 < t.low_ms <= t.median_ms <= t.high_ms for t in found.values())


def test_costs_are_of_one_sample_where_there_is_a_batch() -> None:
    batch = torch.randn(3, 3, 16, 16)
    (cut,), kwargs = one_sample(Small(), (batch,), {})
    assert torch.equal(cut, batch[:1])
    assert kwargs == {}
    assert macs(Small(), (cut,)).total * 3 == macs(Small(), (batch,)).total


def test_inputs_without_a_plain_batch_stay() -> None:
    images = [torch.randn(3, 8, 8), torch.randn(3, 8, 8)]
    unbatched = torch.randn(3, 16, 16)  # its first dimension is channels: the model runs on no single one
    assert one_sample(nn.Identity(), (images,), {}) == ((images,), {})
    assert one_sample(nn.Conv2d(3, 4, 3), (unbatched,), {})[0][0] is unbatched
    assert one_sample(nn.Identity(), (), {}) == ((), {})
