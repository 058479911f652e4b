"""make_relus: functions become modules, and the model computes what it did."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx.capture import trace
from campfire_fx.passes.make_relus import make_relus
from campfire_fx.passes.runner import apply
from campfire_fx.training.sparsify import sparsify


class Forms(nn.Module):
    """Every way to call a ReLU, one of them in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)  # and a name that is taken

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        x = torch.relu(x - 0.1).relu() + F.relu(self.relu(x), inplace=True)
        x = F.relu(input=x - 0.2, inplace=False)
        if self.training:
            x = F.relu_(x - 0.3)
        return (x - 0.1).relu_()


def test_every_form_becomes_a_module_in_both_modes() -> None:
    model, x = Forms(), torch.randn(2, 3, 6, 6)
    captured = trace(model, x)
    assert len(apply(captured, make_relus)) == 13
    names = {name for name, module in captured.module.named_modules() if type(module) is nn.ReLU}
    assert names == {"relu_", "relu_inplace"} and captured.module.relu_inplace.inplace
    for mode in (True, False):
        model.train(mode)
        captured.module.train(mode)
        assert torch.equal(captured.module(x), model(x))
    assert apply(captured, make_relus) == ()


def test_only_regimes_that_sparsify_inputs_need_it() -> None:
    x = torch.randn(2, 3, 6, 6)
    assert hasattr(sparsify(Forms(), "swat-u", example_inputs=x), "relu_")
    assert not hasattr(sparsify(Forms(), "combined", example_inputs=x), "relu_")
