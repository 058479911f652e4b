"""Channels that die together: targets are met by what shrinks, training goes on in a smaller model, and bad input."""

from __future__ import annotations

import copy
import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx.base.errors import RegimeError
from campfire_fx.cost import latency_table
from campfire_fx.cost.measure import macs, parameters
from campfire_fx.sparsity.channels.costs import macs_cost
from campfire_fx.sparsity.channels.scores import OF_BATCHES, SCORES
from campfire_fx.training.dead_channels import living_groups
from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import (
    IMAGE,
    OPTIMIZERS,
    Net,
    assert_same_state,
    assert_zero_under_masks,
    batches,
    gathered,
    masks,
    train,
)

ERA = (1, 4)
STEPS = 3
MANY: list[dict[str, Any]] = [{}, {"score": "l2"}, {"score": "taylor"}, {"score": "fpgm"}, {"scope": "each set"}]


def coupled(regime: str = "channel", net: nn.Module | None = None, **wishes: Any) -> SparseModel:
    torch.manual_seed(0)
    net = Net() if net is None else net
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return sparsify(net, regime, **{"era": ERA, "example_inputs": IMAGE, "target": {"macs": 0.5}, **wishes})


def trained(model: SparseModel, data: list[tuple[Tensor, Tensor]]) -> torch.optim.Optimizer:
    optimizer = OPTIMIZERS["nesterov"](model.parameters())
    model.attach(optimizer, steps_per_epoch=STEPS)
    for _ in train(model, optimizer, data):
        pass
    return optimizer


def double(count: int, seed: int = 7) -> list[tuple[Tensor, Tensor]]:
    return [(x.double(), y) for x, y in batches(count, seed)]


def largest_step(model: SparseModel) -> float:
    """Return the most of the dense MACs that the group which died last can have had."""
    coupling = model._life_cycle.state.coupling
    assert coupling is not None
    widths = coupling.widths(living_groups(model, coupling)).astype(np.float64)
    return float(macs_cost(coupling).savings(widths + 1).max()) / coupling.dense["macs"]


def part_left(slim: nn.Module, dense: nn.Module) -> float:
    return macs(slim, (IMAGE,)).total / macs(dense, (IMAGE,)).total


class TestTarget:
    @pytest.mark.parametrize("regime", ["channel", "channel-combined"])
    @pytest.mark.parametrize("score", [name for name in SCORES if name not in OF_BATCHES[1:]])
    @pytest.mark.parametrize("scope", ["global", "each set"])
    def test_what_shrinks_meets_it_within_one_group(self, regime: str, score: str, scope: str) -> None:
        model = gathered(coupled(regime, score=score, scope=scope))
        trained(model, batches(15))
        now = {cost.name: cost.now for cost in model.sparsity().costs}
        slim = model.eval().shrink()
        left = part_left(slim, Net())
        assert left <= 0.5 and now["macs"] <= 0.5
        assert 0.5 - now["macs"] <= largest_step(model)
        if regime == "channel":
            assert left == pytest.approx(now["macs"], rel=1e-9)
            assert parameters(slim) / parameters(Net()) == pytest.approx(now["parameters"], rel=1e-9)

    def test_several_hold_together(self) -> None:
        slim = coupled(target={"macs": 0.7, "parameters": 0.4}).finalize().shrink()
        assert part_left(slim, Net()) <= 0.7 and parameters(slim) <= 0.4 * parameters(Net())

    def test_numbers_in_place_of_parts(self) -> None:
        dense = macs(Net(), (IMAGE,)).total
        slim = coupled(target={"gmacs": 0.6 * dense / 1e9}).finalize().shrink()
        assert 0.4 < part_left(slim, Net()) <= 0.6

    def test_the_stricter_of_two_limits_of_one_cost_is_told(self) -> None:
        dense = macs(Net(), (IMAGE,)).total
        model = coupled(target={"macs": 0.5, "gmacs": 0.7 * dense / 1e9}).finalize()
        assert model.sparsity().costs[0].final == pytest.approx(0.5)

    def test_a_sparsity_is_the_share_of_channels_in_each_set(self) -> None:
        slim = coupled(target=None, sparsity=0.5).finalize().shrink()
        assert [slim.get_parameter(f"{name}.weight").shape[0] for name in ("stem", "conv1", "point")] == [3, 4, 6]

    def test_it_falls_by_the_schedule_and_never_rises(self) -> None:
        model = coupled()
        optimizer = OPTIMIZERS["nesterov"](model.parameters())
        model.attach(optimizer, steps_per_epoch=STEPS)
        seen = [model.sparsity().costs[0]]
        seen += [model.sparsity().costs[0] for _ in train(model, optimizer, batches(15))]
        assert seen[0].now == 1.0 and seen[-1].now <= 0.5
        assert all(one.now >= other.now for one, other in itertools.pairwise(seen))
        assert all(cost.now <= cost.due + 1e-9 for cost in seen if cost.due is not None)
        assert all(cost.due is not None for cost in seen)

    def test_counts_are_multiples(self) -> None:
        slim = coupled(round_to=2, at_least=0.2).finalize().shrink()
        widths = [slim.get_parameter(f"{name}.weight").shape[0] for name in ("stem", "conv1", "conv2", "point")]
        assert all(width % 2 == 0 for width in widths) and part_left(slim, Net()) <= 0.5

    def test_floors_and_layers_that_stay(self) -> None:
        wishes = {"point": 0, "conv1": {"at_least": 6}}
        model = coupled(target={"macs": 0.7}, overrides=wishes).finalize()
        slim = model.shrink()
        assert slim.get_parameter("point.weight").shape[0] == 12
        assert slim.get_parameter("conv1.weight").shape[0] >= 6
        assert "point: its channels stay: sparsity 0 was asked for" in str(model.report())

    def test_a_mask_set_by_hand_is_left_alone(self) -> None:
        model = coupled(target={"macs": 0.8})
        mask = torch.ones(8, 6, 3, 3, dtype=torch.bool)
        mask[:, 0] = False
        model.set_mask("conv1", mask)
        model.finalize()
        assert torch.equal(model.get_submodule("conv1").mask, mask)


class TestTraining:
    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_what_is_dead_is_zero_with_its_norms(self, optimizer: str) -> None:
        model = coupled(target={"macs": 0.4})
        riding = OPTIMIZERS[optimizer](model.parameters())
        model.attach(riding, steps_per_epoch=STEPS)
        for _ in train(model, riding, batches(15)):
            assert_zero_under_masks(model, riding)
        dead = ~model.get_submodule("conv1").mask.flatten(1).any(1)
        assert dead.any()
        norm = model.get_submodule("bn1")
        for values in (norm.weight, norm.bias, norm.running_mean, model.get_submodule("conv1").bias):
            assert not values[dead].any()

    @pytest.mark.parametrize("score", ["flow", "taylor"])
    @pytest.mark.parametrize("stop", [5, 9])
    def test_a_resumed_run_is_the_run_never_stopped(self, score: str, stop: int) -> None:
        data = batches(15)
        whole = coupled(score=score)
        optimizer = trained(whole, data)
        part = coupled(score=score)
        saved = copy.deepcopy((part, trained(part, data[:stop]).state_dict()))
        resumed = coupled(score=score)
        again = OPTIMIZERS["nesterov"](resumed.parameters())
        resumed.load_state_dict(saved[0].state_dict())
        again.load_state_dict(saved[1])
        resumed.attach(again, steps_per_epoch=STEPS)
        for _ in train(resumed, again, data[stop:]):
            pass
        assert_same_state(resumed.state_dict(), whole.state_dict())
        assert_same_state(again.state_dict(), optimizer.state_dict())

    def test_the_saved_form_keeps_its_length(self) -> None:
        model = coupled(score="taylor")
        before = model.state_dict()["_extra_state"].shape
        trained(model, batches(15))
        assert model.state_dict()["_extra_state"].shape == before

    def test_another_target_is_another_training(self) -> None:
        saved = coupled().state_dict()
        with pytest.raises(RegimeError, match="saved with the rule"):
            coupled(target={"macs": 0.6}).load_state_dict(saved)

    def test_a_copy_and_a_pickle_go_on(self) -> None:
        model = coupled()
        trained(model, batches(7))
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert_same_state(twin.finalize().state_dict(), copy.deepcopy(model).finalize().state_dict())

    def test_soft_channels_train_on_until_the_era_ends(self) -> None:
        model = coupled(soft=True)
        optimizer = trained(model, batches(8))
        assert model.sparsity().zeros == 0
        for _ in train(model, optimizer, batches(6, 8)):
            pass
        assert model.sparsity().costs[0].now <= 0.5
        assert part_left(model.eval().shrink(), Net()) <= 0.5


class TestReconfigure:
    @pytest.mark.parametrize("regime", ["channel", "channel-combined"])
    @pytest.mark.parametrize("wishes", MANY)
    def test_in_the_era_it_goes_on_as_the_large_model_does(self, regime: str, wishes: dict[str, Any]) -> None:
        large = coupled(regime, target={"macs": 0.4}, **wishes).double()
        optimizer = trained(large, double(8))
        twin = copy.deepcopy(large)
        follower = OPTIMIZERS["nesterov"](twin.parameters())
        follower.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        twin.attach(follower, steps_per_epoch=STEPS)
        small = twin.reconfigure(follower)
        assert parameters(small) < parameters(large)
        for _ in zip(train(large, optimizer, double(7, 8)), train(small, follower, double(7, 8)), strict=True):
            assert_zero_under_masks(small, follower)
        x = double(1)[0][0]
        with torch.no_grad():
            torch.testing.assert_close(small.eval()(x), large.eval()(x), rtol=1e-9, atol=1e-10)
        one, other = ({c.name: c.now for c in model.sparsity().costs} for model in (small, large))
        assert one == pytest.approx(other) and one["macs"] <= 0.4
        assert small.sparsity().zeros < large.sparsity().zeros

    def test_as_often_as_it_pays(self) -> None:
        model = coupled(target={"macs": 0.3}, at_least=0.3, net=Wide())
        optimizer = OPTIMIZERS["nesterov"](model.parameters())
        model.attach(optimizer, steps_per_epoch=1)
        sizes = [parameters(model)]
        for x, y in batches(6):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            model = model.reconfigure(optimizer)
            sizes.append(parameters(model))
        assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) >= 4
        assert model.sparsity().costs[0].now == pytest.approx(part_left(model, Wide()), rel=1e-6)
        assert part_left(model, Wide()) <= 0.3
        assert min(layer.shape[0] for layer in model.sparsity().layers if layer.name != "fc") >= 5

    def test_a_resumed_small_model_goes_on(self) -> None:
        model = coupled(score="taylor")
        optimizer = trained(model, batches(8))
        small = model.reconfigure(optimizer)
        twin = pickle.loads(pickle.dumps(small))
        again = OPTIMIZERS["nesterov"](twin.parameters())
        again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        twin.load_state_dict(small.state_dict())
        twin.attach(again, steps_per_epoch=STEPS)
        for _ in zip(train(small, optimizer, batches(7, 8)), train(twin, again, batches(7, 8)), strict=True):
            pass
        assert_same_state(twin.state_dict(), small.state_dict())

    def test_an_average_is_made_smaller_with_its_model(self) -> None:
        model = coupled()
        optimizer = OPTIMIZERS["nesterov"](model.parameters())
        model.attach(optimizer, steps_per_epoch=STEPS)
        average = copy.deepcopy(model)
        for _ in train(model, optimizer, batches(8)):
            moved_towards(average, model)
        model, average = model.reconfigure(optimizer), average.reconfigure()
        for _ in train(model, optimizer, batches(8, 8)):
            moved_towards(average, model)
        assert [p.shape for p in average.parameters()] == [p.shape for p in model.parameters()]
        assert_same_state(masks(average), masks(model))
        assert average.sparsity().costs == model.sparsity().costs
        assert part_left(average.eval().shrink(), Net()) <= 0.5

    def test_soft_channels_cannot(self) -> None:
        model = coupled(soft=True)
        optimizer = trained(model, batches(8))
        with pytest.raises(RegimeError, match="masks still move"):
            model.reconfigure(optimizer)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


class TestGather:
    def test_one_shot_by_gradients(self) -> None:
        model = coupled(score="taylor").train()
        before = copy.deepcopy(dict(model.named_buffers()) | dict(model.named_parameters()))
        model.gather(loss, batches(20), count=3)
        assert model.training and all(parameter.grad is None for parameter in model.parameters())
        for name, value in (dict(model.named_buffers()) | dict(model.named_parameters())).items():
            assert torch.equal(value, before[name]), name
        slim = model.finalize().eval().shrink()
        assert part_left(slim, Net()) <= 0.5

    def test_it_is_the_definition(self) -> None:
        model = coupled(score="taylor").double().eval()
        (batch,) = double(1)
        model.gather(loss, [batch])
        memory = model._life_cycle.state.memory["channel scores"]
        loss(model, batch).backward()
        product = {n: (p * p.grad) for n, p in model.named_parameters() if p.grad is not None}
        stream = product["conv1.weight"].sum((0, 2, 3)) + product["point.weight"].sum((0, 2, 3))
        inner, last = product["conv2.weight"].sum((0, 2, 3)), product["fc.weight"].sum(0)
        expected = torch.cat([stream, inner, last]).square()
        torch.testing.assert_close(memory, expected.detach())


@pytest.mark.parametrize("key", ["latency", "latency_ms"])
def test_a_latency_target(key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAMPFIRE_FX_CACHE", str(tmp_path))
    monkeypatch.setattr(latency_table, "measure", by_size)
    dense = coupled(target={"latency": 1.0})._life_cycle.state.coupling
    assert dense is not None
    wanted = 0.6 if key == "latency" else 0.6 * dense.dense["latency"]
    model = coupled(target={key: wanted}).finalize()
    found = {cost.name: cost for cost in model.sparsity().costs}["latency"]
    assert found.now <= 0.6 + 1e-9 and found.final == pytest.approx(0.6)
    assert "by measured layer times" in " ".join(str(model.report()).split())
    assert part_left(model.eval().shrink(), Net()) < 0.9


def by_size(points: list[Any], others: dict[str, Any], device: torch.device) -> dict[str, float]:
    """Stand in for the clock: a point takes as long as it has outputs and inputs; anything else, as all of them."""
    del device
    return {point.key: 0.001 * point.inputs * point.outputs for point in points} | dict.fromkeys(others, 1.0)


def moved_towards(average: SparseModel, model: SparseModel) -> None:
    with torch.no_grad():
        for one, other in zip(average.parameters(), model.parameters(), strict=True):
            one.lerp_(other, 0.1)
    average.follow(model)


class Wide(Net):
    """The same with more channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.conv1, self.bn1 = nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24)
        self.conv2, self.bn2 = nn.Conv2d(24, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.point = nn.Conv2d(16, 20, 1)
        self.fc = nn.Linear(20, 5)


class Attention(nn.Module):
    """Nothing in it can go: the only layer's channels are the output's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class TestBadInput:
    @pytest.mark.parametrize(
        ("wishes", "said"),
        [
            ({"target": {"macs": 0}}, "outside (0, 1]"),
            ({"target": {"macs": 1.5}}, "outside (0, 1]"),
            ({"target": {"flops": 0.5}}, "unknown key 'flops'"),
            ({"target": {"gmacs": -1}}, "not a number above 0"),
            ({"target": 0.5}, "not a dict of limits"),
            ({"target": {}}, "not a dict of limits"),
            ({"score": "magic"}, "unknown score 'magic'"),
            ({"scope": "layer"}, "scope: 'layer' is not known"),
            ({"at_least": 1.5}, "at_least"),
            ({"round_to": 0}, "round_to: 0"),
            ({"soft": "yes"}, "soft: 'yes'"),
            ({"target": {"macs": 0.001}}, "cannot be met; the least is"),
            ({"overrides": {"conv1": {"era": (0, 2)}}}, "one era"),
        ],
    )
    def test_it_is_refused_in_a_sentence(self, wishes: dict[str, Any], said: str) -> None:
        with pytest.raises(RegimeError) as error:
            coupled(**wishes)
        assert said in str(error.value)

    def test_a_model_whose_channels_all_stay(self) -> None:
        with pytest.raises(RegimeError, match="none of this model can go.*the model's output"):
            coupled(net=Attention())

    def test_other_regimes_take_no_target(self) -> None:
        with pytest.raises(RegimeError, match="target: regime 'combined' takes none. Use it with 'channel'"):
            sparsify(Net(), "combined", target={"macs": 0.5}, example_inputs=IMAGE)

    def test_a_latency_target_needs_an_example(self) -> None:
        with pytest.raises(RegimeError, match="Give example_inputs"):
            sparsify(Net(), "channel", target={"latency": 0.5})

    def test_nothing_to_gather(self) -> None:
        with pytest.raises(RegimeError, match="needs no data"):
            coupled().gather(loss, batches(1))
        with pytest.raises(RegimeError, match="no batch"):
            coupled(score="taylor").gather(loss, [])

    def test_gradients_are_needed_for_a_score_of_them(self) -> None:
        with pytest.raises(RegimeError, match="there have been none"):
            coupled(score="taylor").finalize()


def test_living_groups_are_those_of_the_masks() -> None:
    model = coupled().finalize()
    coupling = model._life_cycle.state.coupling
    assert coupling is not None
    alive = living_groups(model, coupling)
    assert not alive.all() and alive.any()
