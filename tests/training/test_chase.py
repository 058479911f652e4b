"""Chase against loops: weights move over all layers, channels of least magnitude die among them and stay dead."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import OpenLayer, chase
from campfire_fx.sparsity.reallocation import by_gradient
from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import batches, layer, masks, sparse, train


@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(0, 20), st.integers(0, 40))
@settings(max_examples=60)
def test_weights_move_over_all_layers_as_in_the_loops(seed: int, count: int, dying: int, total: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    layers, free = [], []
    for _ in range(count):
        shape = (2, 3, int(torch.randint(1, 3, (), generator=generator)))
        weight, gradient = (torch.randint(-4, 5, shape, generator=generator).float() for _ in range(2))
        mask, may = (torch.rand(shape, generator=generator) < 0.6 for _ in range(2))
        layers.append(OpenLayer(weight * mask, gradient, mask, 0.5, False))
        free.append(may | mask)
    places = [(i, tuple(at)) for i, one in enumerate(layers) for at in torch.ones_like(one.mask).nonzero().tolist()]
    alive = [p for p in places if layers[p[0]].mask[p[1]]]
    best = {}
    for i, at in alive:  # the first of the largest of each layer
        if i not in best or abs(float(layers[i].weight[at])) > abs(float(layers[i].weight[best[i]])):
            best[i] = at
    others = [p for p in alive if best[p[0]] != p[1]]
    gone = set(sorted(others, key=lambda p: abs(float(layers[p[0]].weight[p[1]])))[: min(dying, len(alive))])
    kept = [p for p in alive if p not in gone]
    may_grow = [p for p in places if p not in kept and free[p[0]][p[1]]]
    grown = sorted(may_grow, key=lambda p: -abs(float(layers[p[0]].gradient[p[1]])))[: max(0, total - len(kept))]
    found = by_gradient(layers, free, dying, total)
    assert {(i, tuple(at)) for i, mask in enumerate(found) for at in mask.nonzero().tolist()} == {*kept, *grown}


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.Conv2d(12, 8, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.c(F.relu(self.b(F.relu(self.a(x)))))).mean((2, 3)))


READERS = {"a": "b", "b": "c", "c": "fc"}


def alive(model: SparseModel) -> dict[str, list[bool]]:
    """Channels with a filter and a reader."""
    return {
        name: (
            layer(model, name).mask.flatten(1).any(1) & layer(model, reader).mask.transpose(0, 1).flatten(1).any(1)
        ).tolist()
        for name, reader in READERS.items()
    }


def test_channels_of_least_magnitude_die_by_the_schedule_and_weights_go_elsewhere() -> None:
    torch.manual_seed(1)
    model = sparsify(Chain(), chase(0.5, 2, 2), sparsity=0.8, era=(0, 10), example_inputs=torch.zeros(1, 3, 9, 9))
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    model.attach(optimizer, steps_per_epoch=4)
    weights, seen, moved = sum(mask.sum() for mask in masks(model).values()), [alive(model)], 0
    for step, (x, y) in enumerate(batches(44)):
        before, mask_before = alive(model), masks(model)
        optimizer.zero_grad()
        F.cross_entropy(model(F.pad(x, (1, 0, 1, 0))), y).backward()
        optimizer.step()
        seen.append(alive(model))
        epoch, ends = divmod(step + 1, 4)
        moved += any(not torch.equal(mask, mask_before[name]) for name, mask in masks(model).items()) and ends != 0
        if ends == 0 and epoch <= 8:
            gone = 0.5 * (1 - (1 - min(1, epoch / 8)) ** 3)
            left = sum(map(sum, seen[-1].values()))
            assert left <= 28 * (1 - gone) + 1e-9
            dead = [(name, i) for name in before for i, was in enumerate(before[name]) if was and not seen[-1][name][i]]
            assert not dead or left > 28 * (1 - gone) - 1 or sum(map(sum, before.values())) - len(dead) == left
    for earlier, later in pairwise(seen):
        assert all(was or not now for name in READERS for was, now in zip(earlier[name], later[name], strict=True))
    final = seen[-1]
    assert sum(map(sum, final.values())) <= 14 and all(sum(final[name]) >= 2 for name in READERS)
    assert moved > 5
    assert abs(sum(int(mask.sum()) for mask in masks(model).values()) - int(weights)) <= 1, (
        "weights that died grew elsewhere"
    )
    slim = model.finalize().eval().shrink()
    assert slim.get_submodule("b").weight.shape[0] == sum(final["b"]) < 12


def test_the_channels_that_die_are_those_of_least_mean_magnitude() -> None:
    torch.manual_seed(2)
    model = sparsify(Chain(), chase(0.5, 100, 1), sparsity=0.3, era=(0, 10), example_inputs=torch.zeros(1, 3, 9, 9))
    for epoch in range(9):
        before = alive(model)
        scores = {
            (name, i): float(layer(model, name).weight[i].detach().abs().mean())
            for name in READERS
            for i, lives in enumerate(before[name])
            if lives
        }
        model.epoch(epoch)
        after = alive(model)
        died = [place for place in scores if not after[place[0]][place[1]]]
        left = [place for place in scores if after[place[0]][place[1]]]
        kept_by_floor = {name for name in READERS if sum(after[name]) == 1}
        assert all(scores[d] <= scores[s] for d in died for s in left if s[0] not in kept_by_floor)
    assert sum(map(sum, after.values())) == 14


def test_it_comes_with_everything_that_channels_have() -> None:
    model = sparse(chase(0.3, 2), sparsity=0.7, era=(0, 4))
    optimizer = SGD(model.parameters(), 0.05)
    model.attach(optimizer, steps_per_epoch=4)
    for _ in train(model, optimizer, batches(18)):
        pass
    costs = {cost.name: cost.now for cost in model.sparsity().costs}
    assert costs["channels"] <= 0.7 + 1e-9
    dead = ~layer(model, "conv1").mask.flatten(1).any(1)
    assert dead.any() and not model.get_parameter("bn1.weight")[dead].any()


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RegimeError, match=r"channels: 1 is outside \[0, 1\)"):
        chase(1)
    with pytest.raises(RegimeError, match="period: 0 is no number of steps"):
        chase(period=0)
