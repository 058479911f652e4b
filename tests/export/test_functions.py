"""autograd.Functions in files that need torch alone: what their forward does is written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import campfire_fx
from campfire_fx.base.errors import ExportError
from campfire_fx.export import export, load
from tests.assertions import difference


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.scale = scale
        return x * torch.sigmoid(x) * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        gate = torch.sigmoid(x)
        return gradient * gate * (1 + x * (1 - gate)) * ctx.scale, None


class Rounded(torch.autograd.Function):
    """Straight through, with the context set up apart."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.round(x * 4) / 4

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class ByValue(torch.autograd.Function):
    """Its forward asks for values."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2 if float(x.sum()) > 1e9 else x * 3

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Net(nn.Module):
    def __init__(self, *functions: Any) -> None:
        super().__init__()
        self.conv, self.head, self.functions = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1), functions

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for function in self.functions:
            x = function.apply(x, 2.0) if function is Swish else function.apply(x)
        return self.head(x)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_functions_are_written_out(tmp_path: Path, suffix: str) -> None:
    model, x = Net(Swish, Rounded, Swish).eval(), torch.randn(2, 3, 8, 8)
    slim = campfire_fx.shrink(model, x)
    export(slim, tmp_path / f"it{suffix}")
    assert "x * torch.sigmoid(x)" in (tmp_path / "it.py").read_text()
    assert difference([model(x)], [load(tmp_path / f"it{suffix}")(x)]) <= 1e-5


def test_a_function_that_asks_for_values_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"no torch-only code at by_value_apply: it calls .*ByValue_apply, which is not"
    ):
        export(Net(ByValue).eval(), tmp_path / "it.pt", torch.randn(2, 3, 8, 8))
