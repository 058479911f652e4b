"""Any training loop: precision, accumulation, clipping, memory format, averages, wrapped optimizers, compilation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from campfire_fx.base.errors import RegimeError
from campfire_fx.training.model import SparseModel
from tests.sparse_training import (
    PRUNED,
    assert_same_state,
    assert_zero_under_masks,
    batches,
    layer,
    masks,
    sparse,
    train,
)


def sgd(model: nn.Module) -> SGD:
    return SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)


class TestMixedPrecision:
    def test_bf16(self) -> None:
        model = sparse()
        optimizer = AdamW(model.parameters(), 1e-2)
        model.attach(optimizer, steps_per_epoch=2)
        for x, y in batches(12):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                output = model(x)
            F.cross_entropy(output, y).backward()
            optimizer.step()
            assert output.dtype == torch.bfloat16
            assert_zero_under_masks(model, optimizer)
        assert model.sparsity().frozen and model.sparsity().true == pytest.approx(0.7, abs=0.02)

    @pytest.mark.parametrize("fused", [False, True])  # a fused step unscales by itself, and never fails to be called
    def test_fp16_with_a_scaler(self, fused: bool) -> None:
        model = sparse()
        optimizer = AdamW(model.parameters(), 1e-3, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=4)
        model.attach(optimizer, steps_per_epoch=2)
        for x, y in batches(12):
            self.step(model, optimizer, scaler, x, y)
            assert_zero_under_masks(model, optimizer)
        assert scaler.get_scale() > 2.0**10, "no step was skipped"
        assert model.sparsity().epoch == 6 and model.sparsity().true == pytest.approx(0.7, abs=0.02)

    def test_steps_that_a_scaler_skips_are_not_counted_so_name_the_epoch(self) -> None:
        model = sparse()
        optimizer = AdamW(model.parameters(), 1e-3)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)  # fp16 ends at 65504: the first steps overflow
        model.attach(optimizer, steps_per_epoch=3)
        data = batches(15)
        for x, y in data[:3]:
            self.step(model, optimizer, scaler, x, y)
        assert model.sparsity().epoch == 0, "steps were skipped"
        for epoch in range(1, 5):
            model.epoch(epoch)
            for x, y in data[3 * epoch : 3 * epoch + 3]:
                self.step(model, optimizer, scaler, x, y)
                assert model.sparsity().epoch in (epoch, epoch + 1)
        assert all(bool(torch.isfinite(p).all()) for p in model.parameters())

    def step(self, model: nn.Module, optimizer: Optimizer, scaler: Any, x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            output = model(x)
        scaler.scale(F.cross_entropy(output.float(), y)).backward()
        scaler.step(optimizer)
        scaler.update()

    def test_weights_in_bf16(self) -> None:
        model = sparse().bfloat16()
        optimizer = sgd(model)
        model.attach(optimizer, steps_per_epoch=1)
        for _ in train(model, optimizer, [(x.bfloat16(), y) for x, y in batches(6)]):
            assert_zero_under_masks(model, optimizer)
        assert model.sparsity().true == pytest.approx(0.7, abs=0.02)


class TestGradients:
    def test_accumulated_ones_make_one_step(self) -> None:
        """Batches of four in halves: the masks of whole batches, the weights to rounding (no norm sees the batch)."""
        whole, halves = (without_norms(sparse()) for _ in range(2))
        first, second = sgd(whole), sgd(halves)
        whole.attach(first, steps_per_epoch=3)
        halves.attach(second, steps_per_epoch=3)
        data = batches(15)
        for _ in train(whole, first, data):
            pass
        for x, y in data:
            second.zero_grad()
            for part in (slice(0, 2), slice(2, 4)):
                (F.cross_entropy(halves(x[part]), y[part]) / 2).backward()
                for name in PRUNED:
                    dead, gradient = ~layer(halves, name).mask, layer(halves, name).weight.grad
                    assert gradient is not None and not gradient[dead].any()
            second.step()
        assert whole.sparsity().epoch == halves.sparsity().epoch == 5
        assert_same_state(masks(whole), masks(halves))
        assert_close(whole, halves)

    def test_clipping_measures_living_weights_alone(self) -> None:
        """As it would in the slim model: nothing reaches what is dead, not even the bias of a norm before a sum."""
        model = sparse("filter", sparsity=0.5, overrides={"point": 0, "fc": 0}).finalize()
        smaller, slim = model.reconfigure(), model.shrink()
        found = [self.clipped(network.train()) for network in (model, smaller, slim)]
        assert found[0] == pytest.approx(found[1], rel=1e-5)
        bias, dead = model.get_submodule("bn2").bias, layer(model, "conv2").live_filters() == 0
        assert isinstance(bias, nn.Parameter) and bias.grad is not None
        assert bool(dead.any()) and not bias.grad[dead].any() and bool(bias.grad[~dead].all())
        assert found[2] > found[0] * 1.001, "the plain model has no masks: there it does, in channels that had to stay"

    def clipped(self, network: nn.Module) -> float:
        x, y = batches(1)[0]
        F.cross_entropy(network(x), y).backward()
        return float(clip_grad_norm_(network.parameters(), 0.01))


def without_norms(model: SparseModel) -> SparseModel:
    """Keep BatchNorms in evaluation mode: then no result depends on how a batch is cut."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda norm, _inputs: norm.eval() and None)
    return model


def assert_close(first: nn.Module, second: nn.Module) -> None:
    other = dict(second.named_parameters())
    for name, value in first.named_parameters():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-6)


def test_channels_last_gives_the_same_masks() -> None:
    plain, last = sparse(), sparse().to(memory_format=torch.channels_last)
    first, second = sgd(plain), sgd(last)
    plain.attach(first, steps_per_epoch=2)
    last.attach(second, steps_per_epoch=2)
    data = batches(12)
    for _ in train(plain, first, data):
        pass
    for _ in train(last, second, [(x.to(memory_format=torch.channels_last), y) for x, y in data]):
        assert_zero_under_masks(last, second)
    weight = layer(last, "conv1").weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    assert_same_state(masks(plain), masks(last))
    assert_close(plain, last)


class TestAverages:
    @pytest.mark.parametrize("buffers", [False, True])
    def test_follow_the_masks(self, buffers: bool) -> None:
        model = sparse("filter", sparsity=0.5)
        optimizer = sgd(model)
        model.attach(optimizer, steps_per_epoch=2)
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=buffers)
        for _ in train(model, optimizer, batches(12)):
            average.update_parameters(model)
            average.module.follow(model)
            for name in PRUNED:
                weight, mask = layer(average.module, name).weight, layer(model, name).mask
                assert torch.equal(layer(average.module, name).mask, mask)
                assert not weight[~mask].any() and bool(weight[mask].all())
        assert not torch.equal(layer(average.module, "conv1").weight, layer(model, "conv1").weight)
        assert average.module.sparsity() == model.sparsity()
        slim = average.module.eval().shrink()
        assert slim.get_submodule("conv1").weight.shape == (4, 6, 3, 3)

    def test_without_following_they_are_not_sparse(self) -> None:
        """The reason for `follow`; and the proof that the test above can fail."""
        model = sparse("filter", sparsity=0.5)
        optimizer = sgd(model)
        model.attach(optimizer, steps_per_epoch=1)
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        for _ in train(model, optimizer, batches(6)):
            average.update_parameters(model)
        assert layer(average.module, "conv1").weight[~layer(model, "conv1").mask].any()

    def test_go_their_own_way_afterwards(self) -> None:
        model, average = sparse(), sparse()
        average.follow(model)
        average.finalize()
        assert not model.sparsity().frozen and model.sparsity().zeros == 0

    def test_of_another_model_are_refused(self) -> None:
        other = sparse()
        del other._modules["fc"]
        with pytest.raises(RegimeError, match="layer 'fc': it is gone from the model"):
            sparse().follow(other)


class Wrapper(Optimizer):
    """As Accelerate's and Lightning's: an Optimizer by class, whose real one is inside."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.param_groups = optimizer.param_groups


def test_an_optimizer_in_a_wrapper_is_found() -> None:
    model = sparse("filter", era=(0, 0), sparsity=0.5)
    optimizer = sgd(model)
    model.attach(Wrapper(Wrapper(optimizer)), steps_per_epoch=1)
    for _ in train(model, optimizer, batches(2)):
        assert_zero_under_masks(model, optimizer)
    assert model.sparsity().epoch == 2
    slim = model.shrink(optimizer=Wrapper(optimizer))
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in slim.parameters()}


class TestCompile:
    @pytest.fixture(autouse=True)
    def _fresh(self) -> Iterator[None]:
        torch.compiler.reset()
        counters.clear()
        yield
        torch.compiler.reset()

    @pytest.mark.parametrize(
        "compiled",
        [lambda model: torch.compile(model, backend="aot_eager"), lambda model: in_place(model)],
        ids=["around", "in-place"],
    )
    def test_one_graph_and_no_recompilation_when_masks_move(self, compiled: Callable[[SparseModel], nn.Module]) -> None:
        model, plain = sparse(), sparse()
        optimizer, other = sgd(model), sgd(plain)
        model.attach(optimizer, steps_per_epoch=2)
        plain.attach(other, steps_per_epoch=2)
        data = batches(10)
        with torch._dynamo.config.patch(error_on_recompile=True):
            for _ in train(compiled(model), optimizer, data):
                assert_zero_under_masks(model, optimizer)
        assert model.sparsity().frozen
        assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"], dict(counters)
        for _ in train(plain, other, data):
            pass
        assert_same_state(masks(model), masks(plain))
        assert_close(model, plain)

    def test_of_the_step_of_the_optimizer(self) -> None:
        model, plain = sparse(), sparse()
        optimizer, other = sgd(model), sgd(plain)
        model.attach(optimizer, steps_per_epoch=2)
        plain.attach(other, steps_per_epoch=2)
        step = torch.compile(optimizer.step, backend="eager")
        for x, y in batches(10):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            step()
            assert_zero_under_masks(model, optimizer)
        for _ in train(plain, other, batches(10)):
            pass
        assert_same_state(masks(model), masks(plain))


def in_place(model: SparseModel) -> SparseModel:
    model.compile(backend="aot_eager", fullgraph=True)
    return model
