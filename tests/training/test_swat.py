"""SWAT training: against a plain dense reference, step by step, and what ends it."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam

from campfire_fx.base.errors import RegimeError, ShrinkError
from campfire_fx.layers.dense_weights import DenseWeightsLayer, PackedReLU
from campfire_fx.sparsity import Regime, Throughout, TopK, regime_named
from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify
from tests.layers.dense_weights import reference
from tests.sparse_training import IMAGE, PRUNED, Net, assert_same_state, batches, layer, masks, saved, sparse, train

SWAT = ("swat-u", "swat-erk", "swat-m", "swat-structured")
SPARSITY = 0.6


def swat(regime: str = "swat-u", **wishes: Any) -> SparseModel:
    return sparse(regime, **{"sparsity": SPARSITY, "period": 3} | wishes)


def sgd(model: nn.Module) -> SGD:
    return SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)


def trained(model: SparseModel, count: int = 7) -> SGD:
    optimizer = sgd(model)
    model.attach(optimizer, steps_per_epoch=3)
    for _ in train(model, optimizer, batches(count)):
        pass
    return optimizer


class Papers:
    """The network with SWAT's formulas on dense tensors; thresholds of weights and inputs are kept for a period."""

    def __init__(self, net: Net, period: int, *, kernels: bool) -> None:
        self.net, self.period, self.kernels = net, period, kernels
        self.weight_limits: dict[str, float] = {}
        self.input_limits: dict[str, float] = {}
        self.step = 0

    def sparse_weight(self, name: str, w: Tensor) -> Tensor:
        scores = w.detach().abs()
        exact = name == "fc" or self.kernels
        if self.kernels and w.dim() == 4:
            scores = scores.sum((2, 3), keepdim=True)
        if exact or self.step % self.period == 0:
            self.weight_limits[name] = reference.kth(scores, SPARSITY)
        return torch.where(scores >= self.weight_limits[name], w, 0)

    def sparse_input(self, name: str, x: Tensor) -> Tensor:
        if self.step % self.period == 0:
            self.input_limits[name] = reference.kth(x, SPARSITY)
        return torch.where(x.abs() >= self.input_limits[name], x, 0)

    def run(self, name: str, x: Tensor) -> Tensor:
        module = self.net.get_submodule(name)
        w, b = module.weight, module.bias
        if name == "stem":
            return F.conv2d(x, w, b, padding=1)
        parts = {"w_sparse": self.sparse_weight(name, w), "x_sparse": self.sparse_input(name, x)}
        if name == "fc":
            return reference.linear(x, w, b, **parts)
        return reference.conv(x, w, b, 0 if name == "point" else 1, **parts)

    def __call__(self, x: Tensor) -> Tensor:
        net = self.net
        x = F.relu(self.run("stem", x))
        x = F.relu(net.bn2(self.run("conv2", F.relu(net.bn1(self.run("conv1", x))))) + x)
        return self.run("fc", F.relu(self.run("point", x)).mean((2, 3)))


@pytest.mark.parametrize("regime", ["swat-u", "swat-structured"])
def test_every_step_is_the_papers(regime: str) -> None:
    torch.manual_seed(3)
    net = Net().double()
    model = sparsify(net, regime, sparsity=SPARSITY, period=3, example_inputs=IMAGE.double())
    papers = Papers(net, 3, kernels=regime == "swat-structured")
    optimizer, other = sgd(model), sgd(net)
    model.attach(optimizer)
    model.train()
    for x, y in batches(8):
        for run, steps in ((model, optimizer), (papers, other)):
            steps.zero_grad()
            F.cross_entropy(run(x.double()), y).backward()
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad, rtol=1e-9, atol=1e-12)
        optimizer.step()
        other.step()
        papers.step += 1
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), parameter, rtol=1e-9, atol=1e-12)


def test_momentum_divides_the_weights_after_every_step() -> None:
    model = swat("swat-m")
    optimizer = sgd(model)
    model.attach(optimizer)
    names = [row.name for row in model.sparsity().layers]
    assert names == ["stem", *PRUNED]
    for _ in range(3):
        before = {name: layer(model, name).mask.clone() for name in names}
        for _ in train(model, optimizer, batches(1)):
            pass
        momenta = {name: optimizer.state[layer(model, name).weight]["momentum_buffer"].abs() for name in names}
        means = [float(momenta[name][before[name]].double().mean()) for name in names]
        sizes = [before[name].numel() for name in names]
        budget = regime_named("swat-m").budget
        expected = budget.redistribute(means, sizes, SPARSITY)  # type: ignore[union-attr]
        assert [row.final for row in model.sparsity().layers] == pytest.approx(expected)
    assert len(set(expected)) > 2


@pytest.mark.parametrize("attached", [False, True])
def test_momentum_that_is_not_there_is_asked_for(attached: bool) -> None:
    model = swat("swat-m")
    optimizer = SGD(model.parameters(), 0.1)  # without momentum
    model.epoch(0)
    if attached:
        model.attach(optimizer)
    model.train()(IMAGE).sum().backward()
    step = optimizer.step if attached else model.step
    with pytest.raises(RegimeError, match=r"swat-m at stem: no attached optimizer has a momentum for it. Attach an"):
        step()


def test_adam_has_a_momentum() -> None:
    model = swat("swat-m")
    optimizer = Adam(model.parameters())
    model.attach(optimizer)
    for _ in train(model, optimizer, batches(2)):
        pass
    assert len({row.final for row in model.sparsity().layers}) > 2


def test_masked_weights_train_on_and_come_back() -> None:
    model = swat(period=1)
    optimizer = sgd(model)
    model.attach(optimizer)
    first, weight = masks(model)["conv1.mask"], layer(model, "conv1").weight.detach().clone()
    for _ in train(model, optimizer, batches(12)):
        pass
    conv = layer(model, "conv1")
    assert bool((conv.weight != weight).all()) and bool((conv.weight != 0).all())
    assert (conv.mask & ~first).any() and (first & ~conv.mask).any()
    assert bool((optimizer.state[conv.weight]["momentum_buffer"] != 0).all())


def test_thresholds_hold_for_a_period_and_the_number_of_weights_floats() -> None:
    model = swat(period=4)
    optimizer = sgd(model)
    model.attach(optimizer)
    limits, counts = [], []
    for _ in train(model, optimizer, batches(8)):
        limits.append(float(layer(model, "conv1").weight_threshold))
        counts.append(int(layer(model, "conv1").mask.sum()))
        assert int(layer(model, "fc").mask.sum()) == math.ceil(0.4 * 60)  # linear layers are exact in every step
    assert limits[0] == limits[1] == limits[2] != limits[3] == limits[6] != limits[7]
    exact = math.ceil(0.4 * 8 * 6 * 9)
    assert counts[3] == counts[7] == exact and any(count != exact for count in counts)


def test_steps_by_hand_move_the_thresholds_as_attached_ones_do() -> None:
    one, other = swat(), swat()
    trained(one)
    optimizer = sgd(other)
    other.epoch(0)
    for _ in train(other, optimizer, batches(7)):
        other.step()
    assert_same_state({k: v for k, v in one.state_dict().items() if k != "_extra_state"},
                      {k: v for k, v in other.state_dict().items() if k != "_extra_state"})  # fmt: skip


def test_of_two_optimizers_one_counts() -> None:
    model = swat(period=4)
    halves = list(model.parameters())
    first, second = SGD(halves[:4], 0.05, momentum=0.9), SGD(halves[4:], 0.05, momentum=0.9)
    model.attach(first)
    model.attach(second)
    for _ in range(3):
        model.zero_grad()
        model.train()(IMAGE).square().sum().backward()
        first.step()
        second.step()
    assert saved(model)["clock"]["updates"] == 3


@pytest.mark.parametrize("regime", SWAT)
class TestEnd:
    def test_finalize_prunes_once_to_the_weight_and_masks_are_ordinary_from_then_on(self, regime: str) -> None:
        model = swat(regime)
        optimizer = trained(model)
        assert model.trains_masked and not model.sparsity().frozen
        model.finalize()
        record = model.sparsity()
        assert record.frozen and not model.trains_masked
        assert not any(isinstance(m, (DenseWeightsLayer, PackedReLU)) for m in model.modules())
        for row in record.pruned:
            unit = math.prod(row.shape[2:]) if regime == "swat-structured" else 1
            assert row.weights - row.zeros == unit * math.ceil(round((1 - row.final) * row.weights / unit, 6))
        for _ in train(model, optimizer, batches(2)):
            pass
        assert all(not layer(model, name).weight[~layer(model, name).mask].any() for name in PRUNED)

    @pytest.mark.parametrize("ended", [False, True])
    def test_it_shrinks_exactly_and_stays_as_it_is(self, regime: str, ended: bool) -> None:
        model = swat(regime, sparsity=0.9)
        trained(model)
        if ended:
            model.finalize()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        slim = model.eval().shrink()
        assert slim.verification is not None and slim.verification.difference < 1e-6
        x = torch.randn(3, 3, 8, 8)
        torch.testing.assert_close(slim(x), model(x), rtol=1e-5, atol=1e-6)
        assert_same_state(dict(model.state_dict()), before)
        assert not any("master" in type(m).__module__ for m in slim.modules())


def test_finalize_keeps_the_largest_and_leaves_norms_alone() -> None:
    model = swat("swat-structured", sparsity=0.95)
    trained(model)
    weight, norm = layer(model, "conv1").weight.detach().clone(), model.get_parameter("bn1.bias").detach().clone()
    model.finalize()
    sums = weight.abs().sum((2, 3))
    kept = sums.flatten().topk(math.ceil(0.05 * sums.numel())).indices
    assert set(layer(model, "conv1").mask.any(-1).any(-1).flatten().nonzero().squeeze(1).tolist()) == set(kept.tolist())
    assert torch.equal(model.get_parameter("bn1.bias"), norm)


def test_the_stem_is_dense_for_u_and_structured_alone() -> None:
    for regime in SWAT:
        stem = swat(regime).sparsity().layers[0]
        assert (stem.reason == "it reads the model's input (prune_stem is off)") == (
            regime in ("swat-u", "swat-structured")
        )
    assert swat("swat-erk", prune_stem=False).sparsity().layers[0].reason


def test_weights_that_are_not_finite_are_refused_and_nothing_is_changed() -> None:
    model = swat()
    trained(model, 1)
    with torch.no_grad():
        layer(model, "fc").weight[0, 0] = float("nan")
    with pytest.raises(RegimeError, match="masks at fc: its weight is not finite"):
        model.finalize()
    assert model.trains_masked and isinstance(layer(model, "conv1"), DenseWeightsLayer)


def test_an_optimizer_cannot_be_cut_while_masked_weights_train(caplog: pytest.LogCaptureFixture) -> None:
    model = swat()
    optimizer = trained(model)
    with pytest.raises(ShrinkError, match=r"weights under the masks would be lost .* Call finalize\(\) first"):
        model.shrink(optimizer=optimizer)
    with caplog.at_level(logging.WARNING):
        model.shrink()
    assert "Masks are not final" in caplog.text
    model.finalize().shrink(optimizer=optimizer)


def test_dense_master_weights_go_with_any_rule() -> None:
    regime = swat_of_own()
    model = sparse(regime, sparsity=0.5)
    trained(model)
    conv = layer(model, "conv1")
    assert isinstance(conv, DenseWeightsLayer) and bool((conv.weight != 0).all())
    assert model.finalize().sparsity().true == pytest.approx(0.5, abs=0.02)
    assert type(layer(model, "fc")).__name__ == "MaskedLinear"


def swat_of_own() -> Regime:
    """Filters of lowest L2 norm, linear layers by Campfire's rule with the zeros that stay."""
    filters = regime_named("filter").spatial
    master = regime_named("swat-u", period=2).master
    return Regime("filters-come-back", filters, filters, None, Throughout, master=master)


def test_layers_of_another_regime_stand_beside_it() -> None:
    model = swat(overrides={"fc": {"regime": "unstructured", "era": (0, 1)}, "conv2": 0})
    trained(model)
    assert [isinstance(layer(model, name), DenseWeightsLayer) for name in PRUNED] == [True, False, True, False]
    assert not layer(model, "fc").weight[~layer(model, "fc").mask].any()
    assert isinstance(regime_named("swat-u").spatial, TopK)


@pytest.mark.parametrize("regime", ["swat-u", "swat-structured"])
def test_what_is_under_the_mask_may_be_infinite(regime: str) -> None:
    model = sparse(regime, sparsity=0.5)
    conv, x = layer(model, "conv1"), batches(1)[0][0]
    expected = model.train()(x).detach()
    with torch.no_grad():
        conv.weight.masked_fill_(~conv.mask, torch.inf)
    others = [p for p in model.parameters() if p is not conv.weight]
    for training in (True, False):
        found = model.train(training)(x)
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(found.square().sum(), others))
        assert found.isfinite().all() and (not training or torch.equal(found, expected))
