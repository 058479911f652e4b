"""Paddings that are computed from the image's size: none in the example, some in another call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import campfire_fx

FORMS: dict[str, Callable[[Any, Tensor, Tensor, int], Tensor]] = {
    "skip": lambda net, y, z, d: net.wide(torch.cat([z, F.pad(y, [d, -d, -d, d])], 1)),
    "activation": lambda net, y, z, d: net.narrow(F.silu(F.pad(y, [d, 0, 0, d]))),
    "value": lambda net, y, z, d: net.narrow(F.pad(y, (0, d), value=5.0)),
    "convolution": lambda net, y, z, d: F.conv2d(y, net.narrow.weight, net.narrow.bias, padding=d),
    "one side": lambda net, y, z, d: F.conv2d(y, net.narrow.weight, net.narrow.bias, 1, (0, d)),
}


class Parted(nn.Module):
    """Two convolutions with three dead filters each, and one of the forms behind them."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.a, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1)
        self.narrow, self.wide = nn.Conv2d(8, 4, 1), nn.Conv2d(16, 4, 3, padding=1)
        with torch.no_grad():
            self.a.weight[2:5].zero_()
            self.c.weight[1:4].zero_()

    def forward(self, x: Tensor) -> Tensor:
        return FORMS[self.form](self, self.a(x), self.c(x), x.shape[2] % 2)


@pytest.mark.parametrize("form", FORMS)
def test_a_constant_is_not_folded_behind_a_padding_that_another_size_has(form: str) -> None:
    model = Parted(form).double().eval()
    slim = campfire_fx.shrink(model, torch.randn(1, 3, 32, 32, dtype=torch.float64), verify=False)
    for size in (32, 33):
        x = torch.randn(2, 3, size, size, dtype=torch.float64)
        torch.testing.assert_close(slim(x), model(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dim", [0, 2, 3])
def test_a_part_that_is_empty_in_the_example_keeps_its_channels(dim: int) -> None:
    class Joined(Parted):
        def forward(self, x: Tensor) -> Tensor:
            return self.narrow(torch.cat([self.a(x), self.c(x).narrow(dim, 0, x.shape[2] % 2)], dim))

    model = Joined("skip").eval()
    slim = campfire_fx.shrink(model, torch.randn(1, 3, 32, 32))
    for size in (32, 33):
        x = torch.randn(2, 3, size, size)
        torch.testing.assert_close(slim(x), model(x))
    assert "is empty in the example" in str([pin.reason for pin in slim.plan.pins])


def test_an_empty_part_of_the_channels_keeps_nothing() -> None:
    class Joined(Parted):
        def forward(self, x: Tensor) -> Tensor:
            return self.narrow(torch.cat([self.a(x), self.c(x)[:, :0]], 1))

    assert campfire_fx.shrink(Joined("skip").eval(), torch.randn(1, 3, 32, 32)).a.out_channels == 5
