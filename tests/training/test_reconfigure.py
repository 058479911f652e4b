"""Training goes on in a smaller model, as the large one would have gone on."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from campfire_fx.base.errors import RegimeError
from campfire_fx.cost.measure import macs
from campfire_fx.shrink.slim import SlimModel
from campfire_fx.training.model import SparseModel
from tests.sparse_training import (
    OPTIMIZERS,
    assert_same_state,
    assert_zero_under_masks,
    batches,
    layer,
    masks,
    sparse,
    train,
)

# Filters die, and single weights in what is left; no constant that trains: the bias of `point` has no norm.
WISHES: dict[str, Any] = {"era": (0, 2), "sparsity": 0.5, "overrides": {"point": {"regime": "unstructured"}}}


def trained(make: Callable[[Any], Optimizer] = OPTIMIZERS["nesterov"]) -> tuple[SparseModel, Optimizer]:
    model = sparse("filter", **WISHES).double()
    optimizer = make(model.parameters())
    model.attach(optimizer, steps_per_epoch=3)
    for _ in train(model, optimizer, data(8)):
        pass
    return model, optimizer


def data(count: int, seed: int = 7) -> list[tuple[Tensor, Tensor]]:
    return [(x.double(), y) for x, y in batches(count, seed)]


class TestReconfigure:
    @pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
    def test_its_steps_are_those_of_the_large_model_on_what_is_left(self, make: Callable[[Any], Optimizer]) -> None:
        large, optimizer = trained(make)
        twin = copy.deepcopy(large)
        follower = make(twin.parameters())
        follower.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        twin.attach(follower, steps_per_epoch=3)
        small = twin.reconfigure(follower)
        alive = layer(large, "conv1").live_filters()
        assert isinstance(small, SparseModel) and alive is not None
        kept = alive.nonzero().flatten()
        assert layer(small, "conv1").weight.shape == (4, 6, 3, 3)
        for _, _ in zip(train(large, optimizer, data(7, 8)), train(small, follower, data(7, 8)), strict=True):
            assert_zero_under_masks(small, follower)
        assert_close(layer(small, "conv1").weight, layer(large, "conv1").weight[kept])
        assert_close(layer(small, "conv2").weight, layer(large, "conv2").weight[:, kept])
        for name in ("bn2.weight", "bn2.running_var", "stem.weight", "point.weight", "fc.weight", "fc.bias"):
            assert_close(small.state_dict()[name], large.state_dict()[name])
        assert bool((layer(small, "point").weight == 0).any()), "single weights stay zero too"
        x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
        assert_close(small.eval()(x), large.eval()(x))

    def test_it_is_smaller_and_faster(self) -> None:
        model, optimizer = trained()
        small = model.reconfigure(optimizer)
        x = (torch.zeros(1, 3, 8, 8, dtype=torch.float64),)
        assert macs(small, x, {}).total < 0.75 * macs(model, x, {}).total
        assert sum(p.numel() for p in small.parameters()) < 0.75 * sum(p.numel() for p in model.parameters())

    def test_the_optimizer_rides_on(self) -> None:
        model, optimizer = trained()
        small = model.reconfigure(optimizer)
        assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in small.parameters()}
        epochs = model.sparsity().epoch, small.sparsity().epoch
        before = masks(small)
        for _ in train(small, optimizer, data(4)):
            assert_zero_under_masks(small, optimizer)
        assert epochs == (2, 2) and (model.sparsity().epoch, small.sparsity().epoch) == (2, 4)
        assert_same_state(masks(small), before)

    def test_its_record_tells_what_is_left(self) -> None:
        model, _ = trained()
        before = copy.deepcopy(model.state_dict())
        small = model.reconfigure()
        rows = {row.name: row for row in small.sparsity().layers}
        assert (rows["conv1"].true, rows["conv1"].target) == (0, 0)
        assert rows["point"].true == rows["point"].target == pytest.approx(0.5, abs=0.01)
        assert small.sparsity().frozen and small.sparsity().target == pytest.approx(small.sparsity().true)
        assert "point" in str(small.report())
        assert_same_state(model.state_dict(), before)

    def test_it_is_copied_pickled_resumed_and_shrunk_as_any(self) -> None:
        model, optimizer = trained()
        small = model.reconfigure(optimizer)
        twin = pickle.loads(pickle.dumps(small))
        for _ in train(small, optimizer, data(3)):
            pass
        twin.load_state_dict(small.state_dict())
        assert_same_state(twin.state_dict(), small.state_dict())
        assert twin.sparsity() == small.sparsity()
        slim = twin.eval().shrink()
        assert isinstance(slim, SlimModel) and not any("mask" in name for name in slim.state_dict())
        x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
        assert_close(slim(x), small.eval()(x))

    def test_constants_that_were_merged_are_weights(self) -> None:
        model = sparse("filter", sparsity=0.5, dead_norm="keep").finalize().eval()
        small = model.reconfigure()
        x = torch.randn(2, 3, 8, 8)
        torch.testing.assert_close(small.eval()(x), model(x), rtol=1e-5, atol=1e-6)
        small.step()
        torch.testing.assert_close(small(x), model(x), rtol=1e-5, atol=1e-6)

    def test_inside_the_era_it_is_refused(self) -> None:
        with pytest.raises(RegimeError, match=r"reconfigure at epoch 0: the pruning era is not over.*finalize"):
            sparse().reconfigure()


def assert_close(first: Tensor, second: Tensor) -> None:
    torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-11)
