"""Masks from data before the training, against what the papers define, written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import SGD

from campfire_fx.base.errors import RegimeError
from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import (
    IMAGE,
    Net,
    assert_same_state,
    assert_zero_under_masks,
    batch_loss,
    batches,
    layer,
    masks,
    sparse,
    train,
)

WEIGHTS = ("stem", "conv1", "conv2", "point", "fc")
DATA = [(x.double(), y) for x, y in batches(6)]


class Few(nn.Module):
    """Few weights, for whole Hessians; a norm, whose statistics are those of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bn = nn.Conv2d(3, 3, 2, bias=False), nn.BatchNorm2d(3)
        self.second, self.fc = nn.Conv2d(3, 4, 2), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.second(torch.tanh(self.bn(self.first(x))))).mean((2, 3)))


def kept(scores: dict[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Keep the largest of all, and the largest of each layer."""
    flat = sorted(
        (float(score), name, place) for name, one in scores.items() for place, score in enumerate(one.flatten())
    )
    best = {name: int(one.flatten().argmax()) for name, one in scores.items()}
    found = {f"{name}.mask": torch.ones_like(one, dtype=torch.bool) for name, one in scores.items()}
    left = math.ceil(sparsity * len(flat) - 1e-6)
    for _, name, place in flat:
        if left and place != best[name]:
            found[f"{name}.mask"].view(-1)[place] = False
            left -= 1
    return found


def sensitivity(net: Net, data: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """|dL/dc| at c = 1 for a gate c on each weight, L summed over the batches."""
    gates = {name: torch.ones_like(net.get_parameter(f"{name}.weight"), requires_grad=True) for name in WEIGHTS}
    gated = {f"{name}.weight": net.get_parameter(f"{name}.weight").detach() * gate for name, gate in gates.items()}
    total = sum(F.cross_entropy(functional_call(net.train(), gated, (x,)), y) for x, y in data)
    assert isinstance(total, Tensor)
    total.backward()
    return {name: gate.grad.abs() for name, gate in gates.items() if gate.grad is not None}


def test_snip_is_the_gates_derivative_of_the_first_batch() -> None:
    model = sparse("snip", sparsity=0.8).double()
    net = Net().double()
    net.load_state_dict({n: v for n, v in model.state_dict().items() if n in net.state_dict()})
    expected = kept(sensitivity(net, DATA[:1]), 0.8)
    optimizer = SGD(model.parameters(), 0.05)
    model.attach(optimizer, steps_per_epoch=2)
    assert model.sparsity().zeros == 0
    for index, _ in enumerate(train(model, optimizer, DATA)):
        assert_same_state(masks(model), expected)
        if index == 0:
            assert model.sparsity().true == pytest.approx(0.8, abs=1e-3)
    assert not model.get_parameter("conv1.weight")[~layer(model, "conv1").mask].any()


def test_snip_of_several_batches_leaves_the_model_as_it_is() -> None:
    model = sparse("snip", sparsity=0.8).double()
    net = Net().double()
    net.load_state_dict({n: v for n, v in model.state_dict().items() if n in net.state_dict()})
    before = {name: value.clone() for name, value in model.state_dict().items() if "extra" not in name}
    model.train(False)
    model.gather(batch_loss, DATA, count=3)
    assert not model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    model.finalize()
    assert_same_state(masks(model), kept(sensitivity(net, DATA[:3]), 0.8))
    assert not any("products" in name for name in model.state_dict())


def test_grasp_is_the_hessian_times_the_gradient() -> None:
    """Written out with the whole Hessian: removed are the highest of -w * (H g)."""
    torch.manual_seed(0)
    net = Few().double()
    model = sparsify(net, "grasp", sparsity=0.6, example_inputs=IMAGE.double())
    names = [f"{name}.weight" for name in ("first", "second", "fc")]
    sizes = [net.get_parameter(name).numel() for name in names]
    flat = torch.cat([net.get_parameter(name).detach().flatten() for name in names])

    def loss(weights: Tensor) -> Tensor:
        parts = {
            name: part.view_as(net.get_parameter(name)) for name, part in zip(names, weights.split(sizes), strict=True)
        }
        return sum((F.cross_entropy(functional_call(net, parts, (x,)), y) for x, y in DATA[:2]), start=torch.zeros(()))

    hessian: Any = torch.autograd.functional.hessian(loss, flat)
    gradient = torch.autograd.functional.jacobian(loss, flat)
    scores = (flat * (hessian @ gradient)).split(sizes)  # the lowest are the highest of -w * (H g)
    shaped = {n[:-7]: s.view_as(net.get_parameter(n)) for n, s in zip(names, scores, strict=True)}
    model.gather(batch_loss, DATA, count=2).finalize()
    assert_same_state(masks(model), kept(shaped, 0.6))


def test_what_comes_too_late_or_not_at_all_is_refused() -> None:
    model = sparsify(Net(), "grasp", example_inputs=IMAGE)
    optimizer = SGD(model.parameters(), 0.05)
    for act in (lambda: model.attach(optimizer, steps_per_epoch=2), model.finalize, sparse("snip").finalize):
        with pytest.raises(
            RegimeError, match=r"it chooses by data, and has seen none\. Call gather\(loss_fn, loader\)"
        ):
            act()
    with pytest.raises(RegimeError, match="gather: there was no batch"):
        model.gather(batch_loss, [])


def test_a_first_step_that_is_not_finite_chooses_nothing() -> None:
    model: SparseModel = sparse("snip")
    optimizer = SGD(model.parameters(), 0.0)
    model.attach(optimizer, steps_per_epoch=2)
    (x, y), other = batches(2)
    for data in ((x * float("inf"), y), other):
        optimizer.zero_grad()
        batch_loss(model, data).backward()
        if data is other:
            assert model.sparsity().zeros == 0
            optimizer.step()
        else:
            model._life_cycle.before_step(model, model.parameters())
    assert model.sparsity().true == pytest.approx(0.7, abs=0.01)


def test_a_static_mask_is_drawn_once_and_kept() -> None:
    model = sparse("static-random", era=(1, 3), sparsity=0.6)
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    model.attach(optimizer, steps_per_epoch=2)
    drawn = masks(model)
    for _ in train(model, optimizer, batches(8)):
        assert_same_state(masks(model), drawn)
        assert_zero_under_masks(model, optimizer)
    like_set, another = sparse("set", sparsity=0.6), sparse("static-random", sparsity=0.6)
    for other in (like_set, another):
        other.epoch(0)
    counts = [{name: int(mask.sum()) for name, mask in one.items()} for one in (drawn, masks(like_set))]
    assert counts[0] == counts[1], "Erdos-Renyi-Kernel, as the dynamic methods have it"
    assert any(not torch.equal(mask, drawn[name]) for name, mask in masks(another).items()), "another draw"
