"""Constants in whole networks: what a dead filter becomes behind its normalisation, at borders, in sums."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx import trace
from campfire_fx.analysis.constants import find_constants
from campfire_fx.analysis.labelling import label
from tests.nets.case import conv, named, zero

X = torch.randn(2, 3, 6, 6, dtype=torch.float64)


def found(model: nn.Module, *names: str) -> dict[str, Tensor]:
    """Return the constants of nodes: one number per channel, NaN where it depends on the input."""
    labelling = label(trace(model.double().eval(), X))
    values = find_constants(labelling).values[0]
    return {node.name: value.flatten(2)[0, :, 0] for node, value in values.items() if node.name in names}


def norm(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels)
    nn.init.uniform_(layer.bias, 0.5, 1)
    nn.init.uniform_(layer.running_mean, -1, -0.5)  # type: ignore[arg-type]
    return layer


def test_a_dead_filter_is_what_its_normalisation_makes_of_zero() -> None:
    model: Any = named(a=conv(3, 4), norm=norm(4), act=nn.ReLU())
    with torch.no_grad():
        zero(model.a.weight, 1, 2)
        model.norm.bias[2] = -9.0
    got = found(model, "a", "norm", "act")
    shift = model.norm(torch.zeros(1, 4, 1, 1).double())[0, [1, 2], 0, 0].detach()
    assert got["a"].isnan().tolist() == [True, False, False, True]
    torch.testing.assert_close(got["norm"][[1, 2]], shift)
    torch.testing.assert_close(got["act"][[1, 2]], shift.relu())
    assert got["act"][2] == 0 < got["act"][1]


def test_zero_padding_lets_only_zeros_through() -> None:
    for padding, known in ((0, True), (1, False)):
        model: Any = named(a=conv(3, 2), norm=norm(2), b=nn.Conv2d(2, 3, 3, padding=padding))
        with torch.no_grad():
            zero(model.a.weight, 0, 1)
            zero(model.b.weight, 2)
        got = found(model, "b")["b"]
        assert got.isnan().tolist() == [not known, not known, False]
        assert got[2] == model.b.bias[2]
        if known:
            torch.testing.assert_close(got, model(X)[0, :, 0, 0].detach())


def test_where_a_scale_is_zero_the_shift_is_left() -> None:
    model: Any = named(a=conv(3, 4), norm=norm(4))
    with torch.no_grad():
        model.norm.weight[3] = 0
    got = found(model, "norm")["norm"]
    assert got.isnan().tolist() == [True, True, True, False] and got[3] == model.norm.bias[3]


def test_a_gate_that_is_zero_closes_whatever_comes() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.gate = conv(3, 4), nn.Conv2d(3, 4, 1)
            with torch.no_grad():
                zero(self.gate.weight, 0, 2)
                self.gate.bias.copy_(torch.tensor([-9.0, 0, 0.5, 0]))

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) * torch.relu(self.gate(x.mean((2, 3), keepdim=True)))

    assert found(Gated(), "mul")["mul"].isnan().tolist() == [False, True, True, True]
    assert found(Gated(), "mul")["mul"][0] == 0


def test_modules_keep_their_modes() -> None:
    model = named(a=conv(3, 4), drop=nn.Dropout(0.5), norm=norm(4)).double().train()
    model.get_submodule("norm").eval()
    labelling = label(trace(model, X))
    find_constants(labelling)
    flags = {name: module.training for name, module in labelling.captured.module.named_modules() if name}
    assert flags == {"a": True, "drop": True, "norm": False}
