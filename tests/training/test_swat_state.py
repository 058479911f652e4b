"""SWAT and everything around a model: resuming, copies, averages, masks of one's own, compilation, AMP, two ranks."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from campfire_fx.base.errors import RegimeError
from campfire_fx.layers.dense_weights import DenseWeightsLayer
from tests.sparse_training import (
    IMAGE,
    OPTIMIZERS,
    Net,
    assert_resumes,
    assert_same_state,
    batches,
    layer,
    masks,
    saved,
    sparse,
    train,
)
from tests.training.test_swat import SWAT, sgd, swat, trained


@pytest.mark.parametrize("regime", SWAT)
@pytest.mark.parametrize("stop", [4, 6])  # inside a period, and between two
def test_a_run_that_was_stopped_goes_on_bit_for_bit(regime: str, stop: int) -> None:
    assert_resumes(
        lambda seed: swat(regime, seed=seed), OPTIMIZERS["sgd-momentum"], batches(11), stop=stop, steps_per_epoch=4
    )


class TestStateDict:
    @pytest.mark.parametrize("regime", SWAT)
    @pytest.mark.parametrize("ended", [False, True])
    def test_it_comes_back_before_and_after_the_end(self, regime: str, ended: bool, tmp_path: Path) -> None:
        model = swat(regime)
        trained(model)
        if ended:
            model.finalize()
        save_file(model.state_dict(), tmp_path / "swat.safetensors")
        for other in (swat(regime), swat(regime).finalize()):
            other.load_state_dict(load_file(tmp_path / "swat.safetensors"))
            assert other.trains_masked != ended and other.sparsity() == model.sparsity()
            assert_same_state(other.state_dict(), model.state_dict())
            x = torch.randn(2, 3, 8, 8)
            assert torch.equal(other.eval()(x), model.eval()(x))

    def test_a_dense_one_starts_anew(self) -> None:
        dense, model = Net(), swat()
        model.attach(sgd(model))
        result = model.load_state_dict(dense.state_dict())
        assert not result.missing_keys and not result.unexpected_keys
        conv = layer(model, "conv1")
        assert torch.equal(conv.weight, dense.conv1.weight)
        assert int(conv.mask.sum()) == 173 and float(dense.conv1.weight[conv.mask].abs().min()) == float(
            conv.weight_threshold
        )

    def test_names_of_parameters_are_the_originals(self) -> None:
        assert [name for name, _ in swat().named_parameters()] == [name for name, _ in Net().named_parameters()]

    def test_one_of_another_period_is_refused(self) -> None:
        with pytest.raises(RegimeError, match="saved with the rule .*DenseWeights\\(period=5"):
            swat(period=3).load_state_dict(swat(period=5).state_dict())

    def test_one_from_before_steps_were_counted_still_loads(self) -> None:
        model = sparse().finalize()
        state = model.state_dict()
        now = saved(model)
        layers = {
            name: {
                "rule": row["shown"],
                **{key: row[key] for key in ("sparsity", "schedule")},
            }
            for name, row in now["layers"].items()
        }
        reached = {name: row["reached"] for name, row in now["layers"].items() if row["reached"] is not None}
        before = {
            **{name: now[name] for name in ("regime", "sparsity")},
            **{name: now["clock"][name] for name in ("epoch", "step", "frozen")},
            "reached": reached,
            "own": [],
            "layers": layers,
        }
        state["_extra_state"] = torch.tensor(list(json.dumps(before).encode()), dtype=torch.uint8)
        other = sparse()
        other.load_state_dict(state)
        assert_same_state(masks(other), masks(model))


class TestCopies:
    def test_copies_and_pickles_train_on_alike(self) -> None:
        model = swat()
        trained(model)
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        states = []
        for one in (model, *copies):
            optimizer = sgd(one)
            one.attach(optimizer)
            for _ in train(one, optimizer, batches(4, seed=1)):
                pass
            states.append(one.state_dict())
        assert_same_state(states[1], states[0])
        assert_same_state(states[2], states[0])

    @pytest.mark.parametrize("ended", [False, True])
    def test_an_average_follows(self, ended: bool) -> None:
        model = swat()
        average = AveragedModel(model)
        trained(model)
        average.update_parameters(model)
        if ended:
            model.finalize()
        average.module.follow(model)
        assert_same_state(masks(average.module), masks(model))
        assert average.module.trains_masked != ended
        conv = layer(average.module, "conv1")
        assert bool(conv.weight[~conv.mask].any()) != ended

    def test_a_mask_of_ones_own_is_final(self) -> None:
        model = swat()
        optimizer = trained(model)
        model.set_mask("conv1", torch.rand_like(layer(model, "conv1").weight) > 0.5)
        mask = masks(model)["conv1.mask"]
        for _ in train(model, optimizer, batches(4)):
            pass
        conv = layer(model.finalize(), "conv1")
        assert torch.equal(conv.mask, mask) and not conv.weight[~mask].any()

    def test_what_was_finalized_can_be_reconfigured(self) -> None:
        model = swat("swat-structured", sparsity=0.95)
        optimizer = trained(model)
        smaller = model.finalize().eval().reconfigure(optimizer)
        x = torch.randn(2, 3, 8, 8)
        torch.testing.assert_close(smaller.eval()(x), model(x), rtol=1e-5, atol=1e-6)

    def test_moving_to_another_dtype_and_back(self) -> None:
        model = swat().double()
        x = IMAGE.double()
        model.epoch(0)
        model.train()(x).sum().backward()
        assert layer(model, "conv1").weight_threshold.dtype == torch.float64  # type: ignore[union-attr]

    def test_its_channels_can_be_told(self) -> None:
        model = swat()
        trained(model)
        assert set(model.dependency_graph.nodes) == set(sparse().dependency_graph.nodes)


class TestCompile:
    @pytest.fixture(autouse=True)
    def _fresh(self) -> Iterator[None]:
        torch.compiler.reset()
        yield
        torch.compiler.reset()

    @pytest.mark.parametrize("regime", ["swat-u", "swat-m"])
    def test_the_whole_model_is_one_graph_and_trains_as_it_does_without(self, regime: str) -> None:
        model, plain = swat(regime), swat(regime)
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        for one, run in ((model, compiled), (plain, plain)):
            optimizer = sgd(one)
            one.attach(optimizer)
            for _ in train(run, optimizer, batches(8)):
                pass
        for name, value in plain.state_dict().items():
            if value.is_floating_point():
                torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-4, atol=1e-5)

    def test_there_are_two_graphs_with_and_without_new_thresholds(self) -> None:
        model = swat("swat-m", period=3)
        graphs: list[Any] = []
        compiled = torch.compile(model, backend=lambda graph, _: graphs.append(graph) or graph, fullgraph=True)
        optimizer = sgd(model)
        model.attach(optimizer)
        for _ in train(compiled, optimizer, batches(9)):
            pass
        assert len(graphs) == 2


class TestMixedPrecision:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("regime", ["swat-u", "swat-m"])
    def test_it_trains(self, regime: str, dtype: torch.dtype) -> None:
        model, full = swat(regime), swat(regime)
        trained(full, 6)
        optimizer = sgd(model)
        model.attach(optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        for x, y in batches(6):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype):
                loss = F.cross_entropy(model.train()(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
        mine, theirs = (torch.cat([p.detach().flatten() for p in one.parameters()]) for one in (model, full))
        assert float((mine - theirs).norm() / theirs.norm()) < 0.02

    def test_what_is_kept_is_in_half_precision(self) -> None:
        model = swat(sparsity=0.5)
        model.epoch(0)
        kept: list[Any] = []
        noted = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t)
        with noted, torch.autocast("cpu", torch.bfloat16):
            model.train()(batches(1)[0][0])
        assert any(t.dtype == torch.bfloat16 and t.dim() == 1 for t in kept)


def test_gradients_accumulate_and_a_checkpointed_part_computes_the_same_twice() -> None:
    class Checkpointed(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=False)

    grads = []
    for wrap in (lambda m: m, Checkpointed):
        model = swat()
        model.attach(sgd(model))
        for part in batches(1)[0][0].chunk(2):
            wrap(model.train())(part).square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)
    assert isinstance(layer(model, "conv1"), DenseWeightsLayer)
