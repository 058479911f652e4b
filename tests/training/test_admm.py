"""ADMM in a training loop: the iteration by the formulas, its end, its steps, and what it composes with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import COLUMN, FILTER, KERNEL, Admm, admm
from campfire_fx.training.model import SparseModel
from tests.sparse_training import (
    OPTIMIZERS,
    Net,
    assert_resumes,
    assert_same_state,
    assert_zero_under_masks,
    batches,
    layer,
    masks,
    saved,
    sparse,
    train,
)

NAMES = ("admm-filter", "admm-channel", "admm-column", "admm-kernel", "admm-unstructured", "admm-column-filter")
PULLED = ("conv1", "conv2", "point")
STRONG = Admm(rho=0.5, multiply=1.5)


def sgd(model: nn.Module) -> SGD:
    return SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)


def run(model: SparseModel, data: list[tuple[Tensor, Tensor]], per_epoch: int = 2) -> Optimizer:
    optimizer = sgd(model)
    model.attach(optimizer, steps_per_epoch=per_epoch)
    for _ in train(model, optimizer, data):
        pass
    return optimizer


def nearest_columns(weight: Tensor, dead: int) -> Tensor:
    """Zero the GEMM columns of smallest norm: the projection, once more by itself."""
    columns = weight.flatten(1).clone()
    columns[:, columns.norm(dim=0).argsort()[:dead]] = 0
    return columns.view_as(weight)


def test_the_iteration_is_that_of_the_formulas() -> None:
    """Plain SGD on the augmented Lagrangian, Z and U by hand, hard pruning, then gradients masked."""
    model = sparse(admm(COLUMN, update=STRONG), sparsity=0.5, era=(1, 4))
    plain = copy.deepcopy(model.train())  # never attached: its masks do nothing
    names = {name: round(0.5 * layer(model, name).weight[0].numel() + 1e-9) for name in PULLED}
    optimizer, reference = SGD(model.parameters(), 0.05), SGD(plain.parameters(), 0.05)
    model.attach(optimizer, steps_per_epoch=2)
    weights = {name: layer(plain, name).weight for name in PULLED}
    z: dict[str, Tensor] = {}
    u: dict[str, Tensor] = {}
    rho, kept = 0.5, {name: torch.ones_like(weight) for name, weight in weights.items()}
    data = batches(12)
    for step, _ in enumerate(train(model, optimizer, data)):
        epoch, (x, y) = step // 2, data[step]
        with torch.no_grad():
            if step % 2 == 0:
                for name, weight in weights.items():
                    if epoch == 1:
                        z[name], u[name] = nearest_columns(weight, names[name]), torch.zeros_like(weight)
                    elif 1 < epoch < 4:
                        z[name] = nearest_columns(weight + u[name], names[name])
                        u[name] = u[name] + weight - z[name]
                    elif epoch == 4:
                        weight.copy_(nearest_columns(weight, names[name]))
                        kept[name] = (weight != 0).float()
                rho = rho * 1.5 if 1 < epoch < 4 else rho
        loss = F.cross_entropy(plain(x), y)
        if 1 <= epoch < 4:
            loss = loss + sum(rho / 2 * (w - z[name] + u[name]).square().sum() for name, w in weights.items())
        reference.zero_grad()
        loss.backward()
        for name, weight in weights.items():
            assert weight.grad is not None
            weight.grad *= kept[name]
        reference.step()
    for name, weight in weights.items():
        found = layer(model, name).weight
        torch.testing.assert_close(found, weight, rtol=1e-4, atol=1e-6)
        assert not found[:, :][~layer(model, name).mask].any() and not bool(layer(model, name).mask.all())


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_dense_in_the_era_and_masked_from_its_end_on(name: str) -> None:
    model = sparse(name, sparsity=0.5, era=(1, 5))
    optimizer = sgd(model)
    model.attach(optimizer, steps_per_epoch=2)
    seen = []
    for _ in train(model, optimizer, batches(14)):
        seen.append(model.sparsity().zeros)
        assert_zero_under_masks(model, optimizer)
    cut = 9 if name != "admm-column-filter" else 5  # the columns go in the middle of the era
    assert set(seen[:cut]) == {0} and min(seen[cut:]) > 0 and len(set(seen[9:])) == 1
    assert model.sparsity().true == pytest.approx(0.5, abs=0.06)
    assert not any("admm" in key for key in model.state_dict()), "Z and U are let go"
    slim = model.eval().shrink()
    assert slim.verification is not None and slim.verification.difference < 1e-5


def test_it_draws_the_weights_to_where_they_are_cut() -> None:
    """What the cut removes is a smaller part of the weight than without ADMM."""
    losses = []
    for rho in (1e-9, 2.0):
        model = sparse(admm(FILTER, update=Admm(rho, 1.0)), sparsity=0.5, era=(0, 20))
        run(model, batches(39))
        weights = [layer(model, name).weight.detach().clone() for name in PULLED]
        model.finalize()
        cut = [w - layer(model, name).weight for w, name in zip(weights, PULLED, strict=True)]
        losses.append(sum(float(c.detach().norm() / w.norm()) for c, w in zip(cut, weights, strict=True)) / 3)
    assert losses[1] < 0.3 * losses[0]


def test_residuals_are_those_of_the_last_update_and_fall() -> None:
    model = sparse(admm(KERNEL, update=Admm(1.0, 1.0)), sparsity=0.5, era=(0, 24))
    optimizer = SGD(model.parameters(), 0.05)
    model.attach(optimizer, steps_per_epoch=2)
    found = [model.sparsity().residuals]
    assert found[0][0] is not None and found[0][1] is None
    for step in train(model, optimizer, batches(1) * 52):
        if step % 2 == 1 and model.sparsity().epoch < 24:
            before = {name: layer(model, name).carried["admm_z"] for name in PULLED}
            weights = {name: layer(model, name).weight for name in PULLED}
            found.append(model.sparsity().residuals)
            primal = sum(float((w.detach() - before[name]).square().sum()) for name, w in weights.items())
            assert found[-1][0] == pytest.approx(primal, rel=1e-5)
    primals = [primal for primal, _ in found if primal is not None]
    assert len(primals) == 24 and primals[-1] < 0.5 * primals[0]
    assert all(dual is not None and dual >= 0 for _, dual in found[1:])
    assert model.sparsity().residuals == (None, None), "the era is over"


def test_z_and_u_move_every_so_many_epochs_and_at_the_end() -> None:
    model = sparse(admm(FILTER, update=Admm(0.1, 2.0, every=3)), sparsity=0.5, era=(1, 9))
    moved = []
    for epoch in range(11):
        model.epoch(epoch)
        model.epoch(epoch)  # said twice, done once
        iterate = next(row.iterate for row in model.sparsity().layers if row.name == "conv1")
        if iterate is not None:
            moved.append((epoch, iterate.updates, iterate.rho))
    assert moved == [(1, 0, 0.1), (4, 1, 0.2), (7, 2, 0.4), (9, 3, 0.8)]


def test_progressive_steps_freeze_earlier_zeros_and_begin_anew() -> None:
    model = sparse(admm(KERNEL, update=Admm(0.1, 2.0), steps=(0.4, 0.8, 1.0)), sparsity=0.5, era=(0, 6))
    optimizer = sgd(model)
    model.attach(optimizer, steps_per_epoch=2)
    dead = torch.zeros_like(layer(model, "conv1").mask)
    seen, rhos = [0.0], []
    for _ in train(model, optimizer, batches(14)):
        conv = layer(model, "conv1")
        assert not conv.mask[dead].any(), "a zero came back"
        dead = ~conv.mask
        if conv.carried:
            assert not conv.carried["admm_z"][dead].any() and not conv.carried["admm_u"][dead].any()
            rhos.append(saved(model)["layers"]["conv1"]["numbers"]["rho"])
        if (true := float(dead.float().mean())) != seen[-1]:
            seen.append(true)
    assert [round(true, 1) for true in seen] == [0.0, 0.2, 0.4, 0.5]
    assert rhos == [0.1, 0.2, 0.2, 0.1, 0.1, 0.2, 0.2, 0.1, 0.1, 0.2, 0.2], "rho starts anew"


def test_columns_then_filters() -> None:
    model = sparse("admm-column-filter", sparsity=0.75, era=(0, 4), overrides={"conv1": 0.8})
    model.epoch(0)
    model.epoch(2)
    first = layer(model, "conv1").mask
    assert torch.equal(first.any(0, keepdim=True).expand_as(first), first), "whole columns"
    model.epoch(4)
    both = layer(model, "conv1").mask
    filters, columns = both.flatten(1).any(1), both.any(0)
    assert torch.equal(both, filters.view(-1, 1, 1, 1) & columns)
    assert torch.equal(columns, first.any(0)) and not bool(filters.all())
    assert float((~both).float().mean()) == pytest.approx(0.8, abs=0.05)


def test_layers_have_targets_and_rho_of_their_own() -> None:
    wishes: dict[str, Any] = {
        "conv1": {"regime": admm(FILTER, update=Admm(0.3)), "sparsity": 0.75},
        "conv2": {"regime": "filter", "era": (0, 1)},
        "point": 0,
    }
    model = sparse("admm-column", sparsity=0.5, era=(0, 2), overrides=wishes)
    run(model, batches(2))
    assert [name for name, row in saved(model)["layers"].items() if row["numbers"]] == ["conv1"]
    assert saved(model)["layers"]["conv1"]["numbers"]["rho"] == pytest.approx(0.3 * 1.3)
    assert layer(model, "conv1").carried and layer(model, "conv2").carried == {}
    model.finalize()
    assert int((~layer(model, "conv1").mask.flatten(1).any(1)).sum()) == 6


class TestState:
    @pytest.mark.parametrize("stop", [5, 7, 8, 13])  # in the era within an epoch and between two, and after it
    @pytest.mark.parametrize("make", [OPTIMIZERS["sgd-momentum"], lambda p: AdamW(p, 1e-2)], ids=["sgd", "adamw"])
    def test_a_run_resumed_is_the_run_never_stopped(self, stop: int, make: Callable[[Any], Optimizer]) -> None:
        regime = admm(COLUMN, update=STRONG, steps=(0.6, 1.0))
        whole = assert_resumes(
            lambda seed: sparse(regime, seed=seed), make, batches(16), stop=stop, steps_per_epoch=3, attach_first=True
        )
        assert whole.sparsity().frozen

    def test_the_state_dict_holds_z_u_and_rho(self) -> None:
        model = sparse("admm-filter", era=(0, 4))
        run(model, batches(3))
        state = model.state_dict()
        assert {key for key in state if "admm" in key} == {f"{n}.admm_{v}" for n in PULLED for v in "zu"}
        other = sparse("admm-filter", era=(0, 4))
        result = other.load_state_dict(state)
        assert not result.missing_keys and not result.unexpected_keys
        assert_same_state(other.state_dict(), state)
        assert saved(other) == saved(model)
        done = sparse("admm-filter", era=(0, 4)).finalize()
        other.load_state_dict(done.state_dict())
        assert layer(other, "conv1").carried == {}

    def test_a_dense_one_begins_anew(self) -> None:
        model, dense = sparse("admm-filter", era=(0, 4)), Net()
        run(model, batches(3))
        result = model.load_state_dict(dense.state_dict())
        assert not result.missing_keys and not result.unexpected_keys
        conv = layer(model, "conv1")
        assert not conv.carried["admm_u"].any()
        alive = conv.carried["admm_z"].flatten(1).any(1)
        assert torch.equal(conv.carried["admm_z"][alive], dense.conv1.weight[alive])

    def test_one_with_another_rho_is_refused(self) -> None:
        model, other = (sparse(admm(FILTER, update=Admm(rho))) for rho in (0.1, 0.2))
        with pytest.raises(
            RegimeError,
            match=r"it was saved with the rule .*Admm\(rho=0.2.*Build the model with the",
        ):
            model.load_state_dict(other.state_dict())

    def test_copies_go_their_own_way_and_moves_take_z_along(self) -> None:
        model = sparse("admm-filter", era=(0, 4))
        run(model, batches(3))
        other = copy.deepcopy(model)
        layer(model, "conv1").carry(admm_z=None)
        assert layer(other, "conv1").carried
        assert layer(other.double(), "conv1").carried["admm_z"].dtype == torch.float64


class TestLoops:
    def penalised(self, scale: float = 1.0, **wishes: Any) -> SparseModel:
        return sparse(admm(FILTER, update=Admm(0.5, 1.0)), era=(0, 4), **wishes)

    def test_accumulated_gradients_get_the_penalty_once_and_a_closure_gets_it_too(self) -> None:
        found = []
        for way in ("plain", "accumulated", "closure", "by hand"):
            model = self.penalised()
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.register_forward_pre_hook(lambda norm, _inputs: norm.eval() and None)
            optimizer = sgd(model)
            if way == "by hand":
                model.epoch(0)
            else:
                model.attach(optimizer)
            with torch.no_grad():
                layer(model, "conv1").weight += 0.1  # away from Z
            self.one_step(model, optimizer, way)
            found.append({name: value.detach().clone() for name, value in model.named_parameters()})
        for other in found[1:]:
            for name, value in found[0].items():
                torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-6)

    def one_step(self, model: SparseModel, optimizer: Optimizer, way: str) -> None:
        x, y = batches(1)[0]
        model.train()

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        if way == "closure":
            assert optimizer.step(closure) is not None
            return
        if way == "accumulated":
            for part in (slice(0, 2), slice(2, 4)):
                (F.cross_entropy(model(x[part]), y[part]) / 2).backward()
        else:
            closure()
        if way == "by hand":
            model.before_step()
        optimizer.step()

    @pytest.mark.parametrize("fused", [False, True])
    def test_a_scaler_does_not_scale_the_penalty(self, fused: bool) -> None:
        """In fp16 with a scale of 2**10 as without a scaler, both on the same fp16 forward."""
        found = []
        for scaled in (False, True):
            model = self.penalised()
            optimizer = SGD(model.parameters(), 0.05, fused=fused)
            scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=scaled)
            model.attach(optimizer, steps_per_epoch=2)
            with torch.no_grad():
                layer(model, "conv1").weight += 0.1
            for x, y in batches(2):
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16):
                    output = model.train()(x)
                scaler.scale(F.cross_entropy(output.float(), y)).backward()
                scaler.step(optimizer)
                scaler.update()
            found.append(layer(model, "conv1").weight.detach().clone())
        torch.testing.assert_close(found[0], found[1], rtol=1e-2, atol=1e-3)

    def test_removing_the_handle_ends_the_pull(self) -> None:
        model = self.penalised()
        optimizer = sgd(model)
        model.attach(optimizer).remove()
        assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks

    def test_of_two_optimizers_each_pulls_what_it_holds(self) -> None:
        model = self.penalised()
        conv = layer(model, "conv1")
        first, second = SGD([conv.weight], 0.1), SGD([layer(model, "conv2").weight], 0.1)
        model.attach(first, steps_per_epoch=9)
        model.attach(second)
        for name in ("conv1", "conv2"):
            layer(model, name).weight.grad = torch.zeros_like(layer(model, name).weight)
        before = conv.weight.detach().clone()
        first.step()
        torch.testing.assert_close(conv.weight, before - 0.1 * 0.5 * (before - conv.carried["admm_z"]))
        assert not layer(model, "conv2").weight.grad.any()

    def test_averages_follow(self) -> None:
        model = self.penalised()
        optimizer = sgd(model)
        model.attach(optimizer, steps_per_epoch=2)
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        for _ in train(model, optimizer, batches(12)):
            average.update_parameters(model)
            average.module.follow(model)
        assert_same_state(masks(average.module), masks(model))
        assert average.module.eval().shrink().get_submodule("conv1").weight.shape[0] == 2


class TestCompile:
    @pytest.fixture(autouse=True)
    def _fresh(self) -> Iterator[None]:
        torch.compiler.reset()
        yield
        torch.compiler.reset()

    def test_no_recompilation_as_z_comes_moves_and_goes(self) -> None:
        model, plain = (sparse(admm(COLUMN, update=STRONG), era=(1, 4)) for _ in range(2))
        optimizer = sgd(model)
        model.attach(optimizer, steps_per_epoch=2)
        with torch._dynamo.config.patch(error_on_recompile=True):
            for _ in train(torch.compile(model, backend="aot_eager", fullgraph=True), optimizer, batches(12)):
                pass
        run(plain, batches(12))
        assert_same_state(masks(model), masks(plain))
        torch.testing.assert_close(layer(model, "conv1").weight, layer(plain, "conv1").weight, rtol=1e-4, atol=1e-6)


def test_a_weight_that_is_not_finite_is_named() -> None:
    model = sparse("admm-filter", era=(0, 4))
    with torch.no_grad():
        layer(model, "conv2").weight[0] = torch.nan
    with pytest.raises(RegimeError, match="masks at conv2: its weight is not finite"):
        model.epoch(0)
