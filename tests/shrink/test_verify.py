"""The proof: equal models pass, unequal ones are refused with the difference and the place."""

from __future__ import annotations

import copy
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx import ShrinkError
from campfire_fx.base.doubled import Doubled
from campfire_fx.capture import trace
from campfire_fx.passes import shrink_channels
from campfire_fx.shrink.slim import shrink
from campfire_fx.shrink.verify import relative_difference, verify
from tests.nets.case import block, conv, named
from tests.random_zeros import randomise, zero_filters

X = torch.randn(2, 3, 40, 40)


def net() -> Any:
    return randomise(named(a=block(3, 8), b=conv(8, 4)), 0)


def test_two_sizes_and_batches_in_the_models_precision() -> None:
    model = net()
    proof = verify(model, copy.deepcopy(model), (X,), {})
    assert proof.difference == 0
    assert [run.shape for run in proof.runs] == [(2, 3, 40, 40), (3, 3, 47, 47)]
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


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_model_that_gives_no_numbers_any_more_is_refused(wrong: float) -> None:
    model = net()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.b.weight[0, 0, 0, 0] = wrong
    assert relative_difference(model, other, (X,), {}) == float("inf")
    with pytest.raises(ShrinkError, match="the largest relative difference is inf, more than"):
        verify(model, other, (X,), {})


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


@pytest.mark.parametrize("amount", [0.0, float("nan")])
def test_the_first_operation_that_differs_is_named(monkeypatch: pytest.MonkeyPatch, amount: float) -> None:
    model = randomise(named(a=block(3, 8), b=conv(8, 6, 1), c=nn.ReLU(), d=conv(6, 4, 1)).double(), 0, positive=True)
    zero_filters(model.get_submodule("a.0"), (0, 1))
    wrong = torch.full((6,), amount, dtype=torch.float64)
    monkeypatch.setattr(shrink_channels, "folded", lambda mixer, value: wrong)
    with pytest.raises(ShrinkError, match=r"The first node that differs is b\."):
        shrink(model, X.double())


@pytest.mark.parametrize(("size", "other"), [(8, 15), (40, 47), (64, 33), (224, 193)])
def test_the_second_image_is_of_another_size(size: int, other: int) -> None:
    model = nn.Conv2d(1, 1, 3, stride=8, padding=1)
    proof = verify(model, model, (torch.randn(1, 1, size, size),), {})
    assert proof.runs[1].shape == (2, 1, other, other)


def test_a_model_of_one_size_is_proven_at_another_batch() -> None:
    model = nn.Sequential(conv(3, 2), nn.Flatten(), nn.Linear(2 * 40 * 40, 3))
    assert [run.shape for run in verify(model, model, (X,), {}).runs] == [(2, 3, 40, 40), (3, 3, 40, 40)]


def test_a_size_that_does_not_run_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    class Tiles(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(x.shape[0], 3, x.shape[2] // 4, 4, x.shape[3] // 4, 4) * 2

    model = trace(Tiles(), X).module
    assert [run.shape for run in verify(model, model, (X,), {}).runs] == [X.shape, (3, 3, 48, 48)]
    assert capfd.readouterr() == ("", "")


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

    with pytest.raises(ShrinkError, match=r"fail at input shape \(3, 3, 47, 47\), where it runs now: RuntimeError"):
        verify(Free(), Fixed(), (X,), {})


class Draws(nn.Module):
    """Draws in evaluation: in a branch that is dead, and later in one that is not."""

    def __init__(self, later: Any) -> None:
        super().__init__()
        self.a, self.dead, self.b, self.head = conv(3, 8), conv(3, 8, 1), conv(8, 8), conv(8, 4, 1)
        self.later = later

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu() + self.dead(x * torch.rand_like(x))
        return self.head(self.b(self.later(y)).relu())


LATER = {
    "noise": lambda y: y + torch.randn_like(y),
    "dropout": lambda y: F.dropout(y, 0.3, training=True),
    "drawn in place": lambda y: y * torch.empty_like(y).bernoulli_(0.5),
    "of its shape": lambda y: y + torch.randn(y.shape, dtype=y.dtype),
    "for each sample": lambda y: y * torch.rand(y.shape[0], 1, 1, 1, dtype=y.dtype),
    "none": lambda y: y,
}


@pytest.mark.parametrize("later", LATER)
def test_both_draw_the_same_random_numbers(later: str) -> None:
    model = Draws(LATER[later]).double().eval()
    zero_filters(model.a, (1, 2))
    zero_filters(model.b, (0, 3))
    with torch.no_grad():
        model.dead.weight.zero_()
    state = torch.get_rng_state()
    slim: Any = shrink(model, X.double())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    expected = model(X.double())
    torch.manual_seed(5)
    torch.testing.assert_close(slim(X.double()), expected, rtol=1e-10, atol=1e-10)
    assert slim.b.out_channels == 6


def test_numbers_that_mean_something_stay_the_examples() -> None:
    seen: list[list[Any]] = []

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv(3, 4)

        def forward(self, x: Tensor, lengths: Tensor, mask: Tensor, second: Tensor, kind: Tensor) -> Tensor:
            seen.append([x, lengths, mask, second, kind])
            return self.conv(x + second) * lengths.view(-1, 1, 1, 1) / mask.sum()

    lengths, kind = torch.tensor([0.5, 1.0]), torch.tensor([3, 4])
    mask = torch.ones(2, 1, 40, 40)
    mask[1, :, 20:] = 0
    model, second = Net(), torch.zeros_like(X)
    verify(model, copy.deepcopy(model), (X, lengths, mask), {"second": second, "kind": kind})
    at_first, other = seen[0], seen[-1]
    assert not torch.equal(at_first[0], X) and not torch.equal(at_first[3], second)
    assert all(torch.equal(a, b) for a, b in zip((at_first[i] for i in (1, 2, 4)), (lengths, mask, kind), strict=True))
    assert torch.equal(other[1], torch.tensor([0.5, 1.0, 0.5])) and torch.equal(other[4], torch.tensor([3, 4, 3]))
    assert other[2].shape == (3, 1, 47, 47) and set(other[2].unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("low", [0.0, 1.0])
def test_numbers_that_a_model_does_not_take_are_replaced_by_such_as_the_examples(low: float) -> None:
    class Log(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            assert float(x.min()) >= low
            return self.conv(torch.log(x))

    model = Log()
    proof = verify(model, copy.deepcopy(model), (torch.rand(2, 3, 40, 40) + 1.0,), {})
    assert len(proof.runs) == 2
    with pytest.raises(ShrinkError, match="does not run in evaluation mode on inputs of the example's shapes"):
        verify(model, copy.deepcopy(model), (-torch.rand(2, 3, 40, 40),), {})


def test_float64_takes_copies_made_outside_of_it() -> None:
    class Deep(nn.Module):
        def __init__(self, depth: int) -> None:
            super().__init__()
            self.inner: nn.Module = Deep(depth - 1) if depth else nn.Identity()
            self.layer, self.norm = conv(3, 3), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            grid = torch.linspace(0, 1, x.shape[-1]) + torch.arange(x.shape[-1]) / 3
            return self.norm(self.layer(self.inner(x))) + grid.float()

    class Rounded(nn.Module):
        def __init__(self, inner: nn.Module, order: int) -> None:
            super().__init__()
            self.inner, self.order = inner, order

        def forward(self, x: Tensor) -> Tensor:
            y = self.inner(x)
            return (y + 3e6) - 3e6 if self.order else y

    deep, default = Deep(20), torch.get_default_dtype()
    began = time.process_time()
    proof = verify(Rounded(deep, 0), Rounded(deep, 1), (X,), {})
    assert proof.runs[0].dtype == "float64" and proof.difference < 1e-5
    assert time.process_time() - began < 20 and torch.get_default_dtype() is default


def test_a_copy_made_in_float64_keeps_what_is_tied() -> None:
    model = nn.Sequential(conv(3, 3), conv(3, 3))
    model[1].weight = model[0].weight
    with Doubled():
        copied = copy.deepcopy(model)
    assert copied[0].weight is copied[1].weight


def test_an_operation_without_float64_runs_in_float32() -> None:
    class Quantised(nn.Module):
        def __init__(self, order: int) -> None:
            super().__init__()
            self.conv, self.order = conv(3, 4), order

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            y = (y * 3) / 3 if self.order else y
            return torch.fake_quantize_per_tensor_affine(y, 0.01, 0, -128, 127)

    model, other = Quantised(0), Quantised(1)
    other.load_state_dict(model.state_dict())
    proof = verify(model, other, (X,), {})
    assert proof.difference < 1e-5


class Named(OrderedDict):
    """A dict of a class of its own, which pytree takes for a leaf."""


@dataclass
class Answer:
    first: Tensor
    rest: dict[str, Any]


class Holder:
    def __init__(self, value: Any) -> None:
        self.value = value


CONTAINERS: dict[str, Callable[[Tensor], Any]] = {
    "dict subclass": lambda y: Named(out=y),
    "dataclass": lambda y: Answer(torch.zeros(2), {"more": [y]}),
    "object": lambda y: (3, Holder({"deep": y})),
    "distribution": lambda y: torch.distributions.Normal(y, torch.ones_like(y)),
}


class Wrapped(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.wrap = nn.Conv2d(3, 4, 3), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.conv(x))


@pytest.mark.parametrize("wrap", CONTAINERS.values(), ids=CONTAINERS)
def test_tensors_in_containers_of_any_class_are_compared(wrap: Callable[[Tensor], Any]) -> None:
    model, x = Wrapped(wrap), torch.randn(1, 3, 8, 8)
    assert verify(model, copy.deepcopy(model), (x,), {}).difference == 0
    with pytest.raises(ShrinkError, match="would change the output"):
        verify(model, Wrapped(wrap), (x,), {})


class Tokens(nn.Module):
    """Sequences of any length up to 20: (N, L, 6)."""

    def __init__(self, *, baked: int | None = None) -> None:
        super().__init__()
        self.places, self.a, self.baked = nn.Parameter(torch.randn(20, 6)), nn.Linear(6, 4), baked

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1] if self.baked is None else self.baked
        return self.a(x + F.pad(self.places[:length], (0, 0, 0, x.shape[1] - length)))


@pytest.mark.parametrize(("length", "other"), [(5, 13), (16, 17), (20, 19)])
def test_the_second_sequence_is_of_another_length(length: int, other: int) -> None:
    model = Tokens()
    assert [run.shape for run in verify(model, model, (torch.randn(1, length, 6),), {}).runs] == [
        (1, length, 6),
        (2, other, 6),
    ]


def test_what_is_right_for_sequences_of_one_length_alone_is_found() -> None:
    model, baked = Tokens(), Tokens(baked=5)
    baked.load_state_dict(model.state_dict())
    with pytest.raises(ShrinkError, match="differ"):
        verify(model, baked, (torch.randn(1, 5, 6),), {})


def test_whole_numbers_of_a_sequence_are_as_many_as_its_vectors() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.a = nn.Embedding(7, 6), nn.Linear(6, 4)

        def forward(self, words: Tensor, x: Tensor) -> Tensor:
            return self.a(self.table(words) + x)

    model = Embedded()
    proof = verify(model, model, (torch.tensor([[1, 2, 3, 4, 0]]), torch.randn(1, 5, 6)), {})
    assert [run.shape for run in proof.runs] == [(1, 5), (2, 13)]
