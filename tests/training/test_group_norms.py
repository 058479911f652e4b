"""Networks with GroupNorm lose whole groups of channels: to a target, exactly, and also while they train."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from campfire_fx import shrink
from campfire_fx.base.errors import RegimeError
from campfire_fx.cost.measure import macs
from campfire_fx.training.sparsify import sparsify
from tests.assertions import assert_same_output
from tests.nets import CASES
from tests.random_zeros import randomise

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()


def resnet() -> Any:
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=10, norm_layer=lambda width: nn.GroupNorm(32, width)).double()


def groups_of(model: nn.Module) -> dict[str, tuple[int, int]]:
    norms = ((path, m) for path, m in model.named_modules() if isinstance(m, nn.GroupNorm))
    return {path: (norm.num_groups, norm.num_channels) for path, norm in norms}


def test_a_resnet_trains_down_to_half_of_its_macs() -> None:
    model = resnet()
    sparse = sparsify(model, "channel", target={"macs": 0.5}, era=(0, 2), example_inputs=X)
    optimizer: Any = torch.optim.SGD(sparse.parameters(), lr=0.01, momentum=0.9)
    sparse.attach(optimizer, steps_per_epoch=1)
    for _ in range(4):
        sparse.train()
        optimizer.zero_grad()
        F.cross_entropy(sparse(X), torch.tensor([1, 2])).backward()
        optimizer.step()
        sparse = sparse.reconfigure(optimizer)
    slim = sparse.eval().shrink()
    assert_same_output(sparse, slim, (X,))
    assert 0.45 < macs(slim, (X,)).total / macs(model, (X,)).total <= 0.5
    before, after = groups_of(model), groups_of(slim)
    assert after.keys() == before.keys() and after != before
    for path, (groups, channels) in after.items():
        assert channels * before[path][0] == groups * before[path][1], "groups are as large as they were"


def test_at_once_and_the_report_says_how_many_groups_are_left() -> None:
    model = randomise(resnet())
    sparse = sparsify(model, "channel", target={"parameters": 0.4}, example_inputs=X).finalize()
    slim = sparse.shrink()
    assert_same_output(sparse, slim, (X,))
    before, after = groups_of(model), groups_of(slim)
    told = {repair.node: repair.action for repair in slim.plan.repairs}
    went = {p: f"{before[p][0]} groups to {after[p][0]}" for p in before if before[p] != after[p]}
    assert went and told == went


def test_what_cannot_be_reached_says_what_stays() -> None:
    with pytest.raises(RegimeError, match=r"the least is 0\.0\d+\. 10 channels stay at output: the model's output"):
        sparsify(resnet(), "channel", target={"macs": 0.001}, example_inputs=X)
    one = torchvision.models.resnet18(num_classes=10, norm_layer=lambda width: nn.GroupNorm(1, width)).double()
    with pytest.raises(RegimeError, match=r"512 channels stay at layer4\.\S+: it normalises across channels"):
        sparsify(one, "channel", target={"macs": 0.5}, example_inputs=X)


def test_a_function_is_told_the_number_of_groups_that_are_left() -> None:
    case = CASES["FunctionalGroupNorm"]
    slim = shrink(case.model(), case.example(), verify=False)
    (called,) = slim.graph.find_nodes(op="call_function", target=F.group_norm)
    assert called.args[1] == 3
    assert [(r.action, r.reason) for r in slim.plan.repairs] == [
        ("4 groups to 3", "whole groups of its channels were removed")
    ]


def test_one_norm_with_no_scale_on_tensors_of_two_widths() -> None:
    """It has one number of groups, so both lose as many."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
            self.norm, self.c = nn.GroupNorm(4, 8, affine=False), nn.Conv2d(12, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(F.relu(self.norm(self.b(F.relu(self.norm(self.a(x)))))))

    model = randomise(Twice().double())
    sparse = sparsify(model, "channel", target={"macs": 0.4}, example_inputs=X).finalize()
    slim = sparse.shrink()
    assert_same_output(sparse, slim, (X,))
    assert macs(slim, (X,)).total <= 0.4 * macs(model, (X,)).total
