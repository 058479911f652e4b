"""Parameters, bytes, MACs and latency."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import campfire_fx
from campfire_fx.cost.measure import latencies, macs, one_sample, parameters, size_bytes, zero_weights
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


class Queries(nn.Module):
    """A detector's: a layer is given a parameter, which torch's own tracker of modules cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(6, 8))
        self.conv, self.mix = nn.Conv2d(3, 8, 1), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).mean((2, 3)) + self.mix(self.queries).sum(0)


class Within(nn.Module):
    """A module that is called within itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor, depth: int = 1) -> torch.Tensor:
        return self(self.conv(x), depth - 1) if depth else self.conv(x)


def test_macs_where_torch_cannot_follow_the_modules() -> None:
    assert macs(Queries(), (IMAGE,)).per_layer == {"conv": 2 * 16 * 16 * 24, "mix": 6 * 64}
    within = nn.Sequential(Within())
    assert macs(within, (IMAGE,)).per_layer == {"0.conv": 2 * 2 * 16 * 16 * 9}
    slim = campfire_fx.shrink(Queries(), IMAGE)
    assert "mix" in slim.report().to_json()


def test_no_hook_is_left_behind_by_a_model_that_raises() -> None:
    class Fails(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        macs(nn.Sequential(Fails()), (IMAGE,))
    from torch.nn.modules import module

    assert not module._global_forward_hooks and not module._global_forward_pre_hooks


def test_zeros_among_the_weights() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 4))
    model[0].weight.data[0] = 0
    assert zero_weights(model) == (3, 28)
