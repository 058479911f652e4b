"""The plan: what it keeps cuts the old weights into the new ones, and it survives JSON."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from campfire_fx import shrink
from campfire_fx.analysis.plan import ShrinkPlan
from tests.nets import CASES
from tests.random_zeros import random_zeros, randomise


def cut_by(keep: tuple[tuple[int, ...] | None, ...], weight: Tensor) -> Tensor:
    for axis, indices in enumerate(keep):
        if indices is not None:
            weight = weight.index_select(axis, torch.tensor(indices))
    return weight


@pytest.mark.parametrize("name", ["ResidualAdd", "UNet", "ShuffleUneven", "SqueezeExcite", "GroupedProducer"])
def test_what_is_kept_gives_the_new_shapes(name: str) -> None:
    model = CASES[name].model()
    slim = shrink(model, CASES[name].example(), verify=False)
    old, new = dict(model.named_parameters()), dict(slim.named_parameters())
    assert slim.plan.keep
    for path, keep in slim.plan.keep.items():
        if path in old and path in new:
            assert cut_by(keep, old[path]).shape == new[path].shape, path
    for layer in slim.plan.layers:
        assert layer.weight_before == tuple(old[f"{layer.name}.weight"].shape)
        if f"{layer.name}.weight" in new:
            assert layer.weight_after == tuple(new[f"{layer.name}.weight"].shape)


@pytest.mark.parametrize("name", sorted(CASES)[::12])
def test_json(name: str) -> None:
    plan = shrink(CASES[name].model(), CASES[name].example(), verify=False).plan
    again = ShrinkPlan.from_json(plan.to_json())
    assert again == plan and isinstance(again.layers[0].inputs, tuple)


class TestGroupedWeights:
    """Two groups of 4 -> 3 channels, behind a layer of 8 and before one that reads all 6."""

    def model(self) -> Any:
        net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1, groups=2), nn.Conv2d(6, 5, 1))
        return randomise(net.double(), 0)

    def kept(self, model: Any) -> tuple[tuple[tuple[int, ...] | None, ...], Tensor, Tensor]:
        slim = shrink(copy.deepcopy(model), torch.randn(2, 3, 4, 4).double())
        return slim.plan.keep["1.weight"], model[1].weight, slim.get_parameter("1.weight")

    def test_alike_in_both_groups(self) -> None:
        model = self.model()
        with torch.no_grad():
            model[1].weight[:, 1], model[2].weight[:, [2, 5]] = 0, 0
        keep, old, new = self.kept(model)
        assert keep == ((0, 1, 3, 4), (0, 2, 3), None, None)
        assert torch.equal(cut_by(keep, old), new)

    def test_one_group_goes(self) -> None:
        model = self.model()
        with torch.no_grad():
            model[2].weight[:, :3] = 0
        keep, old, new = self.kept(model)
        assert keep == ((3, 4, 5), None, None, None)
        assert torch.equal(cut_by(keep, old), new)

    def test_unlike_inputs_have_no_common_indices(self) -> None:
        model = self.model()
        with torch.no_grad():
            model[1].weight[:3, 0], model[1].weight[3:, 2] = 0, 0
        keep, _, new = self.kept(model)
        assert keep == (None, None, None, None) and new.shape == (6, 3, 1, 1)


def test_reasons_of_what_stays() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 5, 1)).double()
    randomise(net, 0)
    with torch.no_grad():
        net[2].weight[1] = 0
    layers = {layer.name: layer for layer in shrink(net, torch.randn(1, 3, 4, 4).double()).plan.layers}
    assert layers["2"].reason == "1 empty, but pinned" and layers["0"].reason == ""
    assert layers["2"].dead_outputs == 1 and layers["2"].outputs == (5, 5)


def test_what_is_pinned_and_repaired_is_in_the_plan() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            first, second = y.split([3, 5], 1)
            return self.b(torch.cat([second, first], 1))

    net: Any = random_zeros(randomise(Net().double(), 1), 1)
    with torch.no_grad():
        net.a.weight[[1, 4, 5]], net.a.bias[[1, 4, 5]] = 0, 0
    plan = shrink(net, torch.randn(1, 3, 4, 4).double()).plan
    assert [(repair.node, repair.action) for repair in plan.repairs] == [("split", "sizes rewritten")]
    assert ("output", 5) in [(pin.node, pin.channels) for pin in plan.pins]
