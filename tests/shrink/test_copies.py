"""A borrowing copy shares parameters and nothing else; in the end every parameter is the copy's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from campfire_fx.shrink.copies import borrowing_copy, own_parameters, private_copy


class Tied(nn.Module):
    """Two names for one weight, a plain attribute that refers to a parameter, and a list of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)
        self.free = nn.Linear(3, 3)
        self.kept = [self.norm.weight]
        self.plain = {"layer": self.first}


class WithItsOwnCopy(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.weight = layer.weight
        self.copies = 0

    def __deepcopy__(self, memo):
        new = WithItsOwnCopy(copy.deepcopy(self.layer, memo))
        new.copies = self.copies + 1
        return new


def storages(model: nn.Module) -> set[int]:
    return {t.data_ptr() for t in (*model.parameters(), *model.buffers()) if t.numel()}


def test_parameters_are_borrowed_and_all_else_is_copied() -> None:
    model = Tied()
    copied = borrowing_copy(model)
    assert copied.free.weight is model.free.weight and copied.first.weight is copied.second.weight
    assert copied.norm.running_mean is not model.norm.running_mean
    assert copied.plain["layer"] is copied.first and copied.first is not model.first
    assert copied.free._forward_hooks is not model.free._forward_hooks
    copied.free.in_features = 7
    copied.norm.running_mean += 1
    assert model.free.in_features == 3 and not model.norm.running_mean.any()


def test_a_parameter_that_another_attribute_refers_to_stays_one_with_it() -> None:
    model = Tied()
    copied = borrowing_copy(model)
    assert copied.kept[0] is copied.norm.weight and copied.norm.weight is not model.norm.weight


def test_in_the_end_nothing_is_shared() -> None:
    model = Tied()
    copied = borrowing_copy(model)
    owned = own_parameters(copied, model)
    assert not storages(model) & storages(copied)
    assert copied.first.weight is copied.second.weight is owned[id(model.first.weight)]
    assert [name for name, _ in copied.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), copied.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["pruned", "parametrized", "hooked"])
def test_where_weights_are_computed_nothing_is_borrowed(kind: str) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    if kind == "pruned":
        prune.random_unstructured(model[0], "weight", 0.5)
    elif kind == "parametrized":
        parametrizations.weight_norm(model[0])
    else:
        model[0].register_forward_pre_hook(lambda module, args: None)
    assert not storages(model) & storages(borrowing_copy(model))


@pytest.mark.parametrize("outside", [False, True])
def test_a_class_that_copies_in_its_own_way_does_so(outside: bool) -> None:
    layer = nn.Linear(3, 3)
    model = WithItsOwnCopy(layer) if outside else nn.Sequential(layer, WithItsOwnCopy(layer))
    copied = borrowing_copy(model)
    own = copied if outside else copied[1]
    assert own.copies == 1 and own.weight is own.layer.weight and (outside or copied[0] is own.layer)
    assert not storages(model) & storages(copied)


def test_recurrent_layers_run_on_weights_of_their_own() -> None:
    model = nn.LSTM(3, 4)
    copied = borrowing_copy(model)
    own_parameters(copied, model)
    x = torch.randn(2, 1, 3)
    expected = copied(x)[0].clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(copied(x)[0], expected) and not storages(model) & storages(copied)


@pytest.mark.parametrize("part", [slice(None), slice(1, 3)], ids=["whole", "part"])
def test_buffers_of_one_memory_go_on_sharing_it(part: slice) -> None:
    model = nn.Module()
    model.register_buffer("first", torch.arange(4.0))
    model.register_buffer("view", model.first[part])
    model.register_buffer("again", model.first.detach())
    copied = borrowing_copy(model)
    assert not storages(model) & storages(copied)
    copied.first += 1
    assert torch.equal(copied.view, model.view + 1) and torch.equal(copied.again, model.first + 1)


def test_tensors_that_are_no_plain_block_are_copied_too() -> None:
    model = nn.Module()
    model.register_buffer("sparse", torch.eye(3).to_sparse())
    model.register_buffer("turned", torch.arange(6.0).view(2, 3).T)
    model.register_buffer("empty", torch.zeros(0))
    copied = borrowing_copy(model)
    assert torch.equal(copied.sparse.to_dense(), torch.eye(3)) and copied.sparse is not model.sparse
    assert torch.equal(copied.turned, model.turned) and copied.turned.stride() == model.turned.stride()
    assert copied.empty.shape == (0,)


class Keeps(nn.Module):
    """Keeps what it computed, with its history, as it is and inside other things."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.history: list[dict[str, torch.Tensor]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.last = self.layer(x)
        self.history.append({"mean": self.last.mean()})
        return self.last


@pytest.mark.parametrize("copying", [borrowing_copy, private_copy])
def test_what_was_computed_is_copied_by_its_value(copying) -> None:
    model = Keeps()
    out = model(torch.randn(2, 3))
    copied = copying(model)
    assert torch.equal(copied.last, out) and not copied.last.requires_grad and copied.last is not out
    assert torch.equal(copied.history[0]["mean"], out.mean()) and out.grad_fn is not None
    with pytest.raises(RuntimeError, match="deepcopy protocol"):
        copy.deepcopy(model)


@pytest.mark.parametrize("own_copy", [False, True])
def test_functions_that_a_model_holds_use_the_parts_of_the_copy(own_copy: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 3), WithItsOwnCopy(nn.Linear(3, 3)) if own_copy else nn.ReLU())
    first, original = model[0], model.forward
    inner = [first]

    def twice(x: torch.Tensor) -> torch.Tensor:
        return first(inner[0](x))

    model.forward = lambda x: original(x) if x is None else twice(x)
    seen: list[nn.Module] = []
    model[0].register_forward_hook(lambda *_: seen.append(first))
    copied = private_copy(model)
    with torch.no_grad():
        copied[0].weight.zero_()
        copied[0].bias.fill_(2.0)
    assert torch.equal(copied(torch.randn(1, 3)), torch.full((1, 3), 2.0)) and set(seen) == {copied[0]}
    assert set(map(id, copied.parameters())).isdisjoint(map(id, model.parameters()))
    assert not torch.equal(model(torch.ones(1, 3)), torch.full((1, 3), 2.0))


def test_a_private_copy_shares_nothing() -> None:
    model = Tied()
    model.free.weight.requires_grad_(False)
    copied = private_copy(model)
    assert not storages(model) & storages(copied) and copied.first.weight is copied.second.weight
    assert copied.kept[0] is copied.norm.weight and type(copied.free.weight) is nn.Parameter
    pairs = zip(model.named_parameters(), copied.named_parameters(), strict=True)
    assert all(a == b and torch.equal(p, q) and p.requires_grad == q.requires_grad for (a, p), (b, q) in pairs)
