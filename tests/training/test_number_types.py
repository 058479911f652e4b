"""Models whose weights are no ordinary floats: complex ones, and bfloat16."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx import shrink
from tests.assertions import assert_shapes
from tests.nets.case import block, conv, named
from tests.random_zeros import randomise


class Complex(nn.Module):
    """A complex network on real images: halves activated apart, a modulus, and a real head."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 8, 3, dtype=torch.cdouble), nn.Conv2d(8, 6, 1, dtype=torch.cdouble)
        self.head = nn.Conv2d(6, 4, 1).double()

    def forward(self, x: Tensor) -> Tensor:
        z = self.a(torch.complex(x, x.flip(-1)))
        z = self.b(torch.complex(F.relu(z.real), torch.tanh(torch.imag(z))))
        return self.head(z.abs()) + self.head(z.conj().angle())


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_complex_channels_go_where_they_are_zero(shift: float) -> None:
    """A complex constant other than zero is not folded, so its filter stays."""
    torch.manual_seed(0)
    model, x = Complex(), torch.randn(2, 2, 9, 9).double()
    with torch.no_grad():
        model.a.weight[:3] = 0
        model.a.bias[:3] = shift
        model.b.weight[[0, 4]] = 0
        model.b.bias[[0, 4]] = 0
    slim = shrink(model, x)
    kept = 5 if shift == 0 else 8
    assert_shapes(slim, {"a.weight": (kept, 2, 3, 3), "b.weight": (4, kept, 1, 1), "head.weight": (4, 4, 1, 1)})
    torch.testing.assert_close(slim(x), model(x))


@pytest.mark.parametrize("residual", ["union", "gate"])
def test_constants_in_bfloat16(residual: str) -> None:
    """Behind padding they merge; the sums differ by no more than the precision of the numbers."""
    model: Any = randomise(named(a=block(3, 12), b=conv(12, 8), c=conv(8, 4, 1)), positive=True).bfloat16().eval()
    with torch.no_grad():
        model.a[0].weight[[0, 3, 5]] = 0
    slim: Any = shrink(model, torch.randn(1, 3, 8, 8).bfloat16(), residual=residual)
    assert_shapes(slim, {"a.0.weight": (10, 3, 3, 3), "b.weight": (8, 10, 3, 3)})
    assert all(parameter.dtype is torch.bfloat16 for parameter in slim.parameters())
