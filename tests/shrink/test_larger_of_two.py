"""`torch.max` and `torch.min` of two tensors: channels pass them as they pass `torch.maximum`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import campfire_fx

FORMS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "function": lambda net, x: torch.max(x, net.least),
    "method": lambda net, x: x.min(net.least),
    "name": lambda net, x: torch.min(x, other=net.least),
    "two activations": lambda net, x: torch.max(x, x * 0.25),
    "number": lambda net, x: torch.max(x, torch.tensor(0.25, dtype=x.dtype)),
}


class Rectified(nn.Module):
    """Two convolutions, the first with three dead filters, and one of the forms between them."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = FORMS[form]
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)
        self.least = nn.Parameter(torch.randn(1, 8, 1, 1))
        with torch.no_grad():
            self.a.weight[2:5].zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.form(self, self.a(x)))


@pytest.mark.parametrize("form", FORMS)
def test_dead_channels_go(form: str) -> None:
    model, x = Rectified(form).double().eval(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    slim = campfire_fx.shrink(model, x)
    assert slim.a.out_channels == 5
    torch.testing.assert_close(slim(x), model(x), rtol=1e-12, atol=1e-12)
