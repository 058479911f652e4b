"""The loop: it learns, it repeats itself, it keeps zeros, and it stops where the loss is lost."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import campfire_fx
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.loop import fit
from campfire_fx.app.train.networks import resnet8
from campfire_fx.app.train.recipe import Recipe
from campfire_fx.app.train.split import Split
from campfire_fx.app.train.tally import accuracy
from campfire_fx.base.errors import TrainError

RECIPE = Recipe(epochs=3, batch=16, rate=0.05, era=(0, 1))


@pytest.fixture(scope="module")
def data() -> ImageData:
    """Two classes that differ in brightness."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(96) % 2
    images = torch.randint(0, 100, (96, 1, 8, 8), generator=generator) + 140 * targets.view(-1, 1, 1, 1)
    split = Split(images.byte(), targets)
    return ImageData("brightness", ("dark", "bright"), split, split, split, False, (0.5,), (0.3,))


@pytest.fixture
def network() -> nn.Module:
    return resnet8(classes=2, channels=1)


def test_it_learns(data: ImageData, network: nn.Module) -> None:
    epochs = fit(network, data, RECIPE, seed=0, title="test")
    assert [epoch.epoch for epoch in epochs] == [0, 1, 2]
    assert epochs[-1].loss < 0.5 * epochs[0].loss
    assert accuracy(network, data.test, data) == epochs[-1].valid == 1.0


def test_bfloat16_is_for_layers_alone(data: ImageData, network: nn.Module) -> None:
    seen = set()
    network.fc.register_forward_hook(lambda _, inputs, output: seen.add((inputs[0].dtype, output.dtype)))
    sparse = campfire_fx.sparsify(network, "ck", sparsity=0.5, era=(0, 2), example_inputs=torch.zeros(2, 1, 8, 8))
    epochs = fit(sparse, data, replace(RECIPE, precision="bfloat16"), seed=0, title="test")
    assert (torch.bfloat16, torch.bfloat16) in seen
    assert {parameter.dtype for parameter in sparse.parameters()} == {torch.float32}
    assert epochs[-1].loss < 0.7 * epochs[0].loss
    assert sparse.sparsity().true == pytest.approx(0.5, abs=0.02)


def test_it_repeats_itself(data: ImageData, network: nn.Module) -> None:
    other = copy.deepcopy(network)
    fit(network, data, RECIPE, seed=4, title="test")
    fit(other, data, RECIPE, seed=4, title="test")
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, other.get_parameter(name)), name


def test_masks_ride_along(data: ImageData, network: nn.Module) -> None:
    sparse = campfire_fx.sparsify(network, sparsity=0.5, era=RECIPE.era, example_inputs=torch.randn(1, 1, 8, 8))
    fit(sparse, data, RECIPE, seed=0, title="test")
    record = sparse.sparsity()
    assert record.frozen
    assert record.true == pytest.approx(0.5, abs=0.01)
    assert int((sparse.get_parameter("layer3.0.conv2.weight") == 0).sum()) >= 0.5 * 64 * 64 * 9


def test_lost_loss_stops_it(data: ImageData, network: nn.Module) -> None:
    with torch.no_grad():
        network.get_parameter("fc.bias").fill_(float("nan"))
    with pytest.raises(TrainError, match="Loss of test at epoch 0, step 0: it is nan. Give a lower --learning-rate"):
        fit(network, data, RECIPE, seed=0, title="test")


@pytest.mark.parametrize("training", [True, False])
def test_accuracy_leaves_the_mode_and_the_statistics(data: ImageData, network: nn.Module, training: bool) -> None:
    network.train(training)
    before = copy.deepcopy(network.state_dict())
    accuracy(network, data.test, data)
    assert network.training is training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_residuals_of_admm_are_noted_while_it_runs(data: ImageData, network: nn.Module) -> None:
    sparse = campfire_fx.sparsify(
        network, "admm-column", sparsity=0.5, era=(1, 3), example_inputs=torch.zeros(2, 1, 8, 8)
    )
    epochs = fit(sparse, data, replace(RECIPE, epochs=4), seed=0, title="test")
    assert [epoch.primal is None for epoch in epochs] == [False, False, False, True]
    assert [epoch.dual is None for epoch in epochs] == [True, False, False, True]
    assert [epoch.sparsity > 0.4 for epoch in epochs] == [False, False, True, True]
