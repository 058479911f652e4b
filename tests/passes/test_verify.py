"""The proof: equal models pass, unequal ones are refused with the difference and the place."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx import ShrinkError
from campfire_fx.capture import trace
from campfire_fx.passes import shrink_channels
from campfire_fx.passes.verify import relative_difference, verify
from campfire_fx.slim import shrink
from tests.nets.case import block, conv, named
from tests.random_zeros import randomise, zero_filters

X = torch.randn(2, 3, 40, 40)


def net() -> Any:
    return randomise(named(a=block(3, 8), b=conv(8, 4)), 0)


def test_two_sizes_and_batches_in_the_models_precision() -> None:
    model = net()
    proof = verify(model, copy.deepcopy(model), (X,), {})
    assert proof.difference == 0
    assert [run.shape for run in proof.runs] == [(2, 3, 40, 40), (3, 3, 48, 48)]
    assert {run.dtype for run in proof.runs} == {"float32"}


def test_a_small_difference_is_seen() -> None:
    model = net()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.b.weight[0, 0, 0, 0] += 1e-3
    with pytest.raises(ShrinkError, match="relative difference"):
        verify(model, other, (X,), {})


def test_the_difference_is_relative_to_the_largest_output() -> None:
    class Times(nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.by = by

        def forward(self, x: Tensor) -> Tensor:
            return x * self.by

    assert relative_difference(Times(1000.0), Times(1001.0), (X,), {}) == pytest.approx(1e-3, rel=1e-3)


def test_another_form_is_refused() -> None:
    with pytest.raises(ShrinkError, match="form of the output"):
        verify(conv(3, 4), conv(3, 5), (X,), {})


def test_rounding_is_told_from_a_fault_in_float64() -> None:
    class Cancelling(nn.Module):
        def __init__(self, order: int) -> None:
            super().__init__()
            self.order, self.scale = order, nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            big = 3e6 * self.scale
            return (x + big) - big if self.order else x + (big - big)

    proof = verify(Cancelling(0), Cancelling(1), (X,), {})
    assert proof.runs[0].dtype == "float64" and proof.difference < 1e-5


def test_modes_and_inputs_stay() -> None:
    model, x = net().train(), X.clone()
    before = copy.deepcopy(model.state_dict())
    verify(model, model, (x,), {})
    assert model.training and torch.equal(x, X)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_first_operation_that_differs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomise(named(a=block(3, 8), b=conv(8, 6, 1), c=nn.ReLU(), d=conv(6, 4, 1)).double(), 0, positive=True)
    zero_filters(model.get_submodule("a.0"), (0, 1))
    monkeypatch.setattr(shrink_channels, "folded", lambda mixer, value: torch.zeros(mixer.outputs.numel()))
    with pytest.raises(ShrinkError, match=r"The first node that differs is b\."):
        shrink(model, X.double())


@pytest.mark.parametrize(("size", "other"), [(8, 16), (40, 48), (64, 32), (224, 192)])
def test_the_second_image_is_of_another_size(size: int, other: int) -> None:
    model = nn.Conv2d(1, 1, 3, stride=8, padding=1)
    proof = verify(model, model, (torch.randn(1, 1, size, size),), {})
    assert proof.runs[1].shape == (2, 1, other, other)


def test_a_model_of_one_size_is_proven_at_another_batch() -> None:
    model = nn.Sequential(conv(3, 2), nn.Flatten(), nn.Linear(2 * 40 * 40, 3))
    assert [run.shape for run in verify(model, model, (X,), {}).runs] == [(2, 3, 40, 40), (3, 3, 40, 40)]


class Windows(nn.Module):
    """Right at sizes that leave one row for each sample; others make samples of parts of samples."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Linear(8 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.max_pool2d(self.a(x).relu(), 4).view(-1, 8 * 4))


def test_a_size_at_which_batches_part_is_no_proof() -> None:
    model = Windows()
    with torch.no_grad():
        model.a.weight[:4], model.a.bias[:4] = 0, 0
    slim = shrink(model, torch.randn(1, 3, 10, 10))
    assert slim.a.out_channels == 4
    assert [run.shape for run in slim.verification.runs] == [(1, 3, 10, 10), (2, 3, 10, 10)]


def test_a_size_that_a_guard_refuses_is_no_proof_and_one_that_breaks_is_a_fault() -> None:
    class Deep(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.shape[2] == 40 else x

    model = Deep()
    assert [run.shape for run in verify(model, trace(model, X).module, (X,), {}).runs] == [X.shape, (3, 3, 40, 40)]

    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(-1, 3, 40, 40) * 2

    class Free(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    with pytest.raises(ShrinkError, match=r"fail at input shape \(3, 3, 48, 48\), where it runs now: RuntimeError"):
        verify(Free(), Fixed(), (X,), {})
