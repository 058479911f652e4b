"""Models prepared for quantisation-aware training: shrunk with their rounding, once their scales stand still."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.ao.quantization as q
from torch import Tensor, nn
from torch.ao.quantization import quantize_fx

from campfire_fx import ShrinkError, shrink
from tests.assertions import Snapshot, assert_shapes, assert_untouched
from tests.nets.case import conv
from tests.random_zeros import randomise

X = torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(0))
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated")


class Small(nn.Module):
    """A convolution with a bias and a norm, one without a bias, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = q.QuantStub(), q.DeQuantStub()
        self.a, self.n, self.act = conv(3, 12, bias=True), nn.BatchNorm2d(12), nn.ReLU()
        self.b, self.m, self.head = conv(12, 8), nn.BatchNorm2d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.m(self.b(self.act(self.n(self.a(self.enter(x))))))
        return self.leave(self.head(x.mean((2, 3))))


SEPARATE = q.QConfig(
    activation=q.FakeQuantize.with_args(observer=q.MovingAverageMinMaxObserver, quant_min=0, quant_max=255),
    weight=q.FakeQuantize.with_args(
        observer=q.MovingAverageMinMaxObserver, quant_min=-128, quant_max=127, dtype=torch.qint8,
        qscheme=torch.per_tensor_symmetric,
    ),
)  # fmt: skip


def prepared(way: str) -> Any:
    """Return the network with some filters dead, prepared, and run in training once."""
    torch.manual_seed(1)
    model: Any = randomise(Small(), 1)
    with torch.no_grad():
        model.a.weight[:4] = 0
        model.a.bias[:4] = 0
        model.n.bias[:2] = -9  # behind the activation these are zero; 2 and 3 are what they are
        model.b.weight[[0, 5]] = 0
    if way == "graph":
        ready: Any = quantize_fx.prepare_qat_fx(model.train(), q.get_default_qat_qconfig_mapping("fbgemm"), (X,))
    else:
        model.train().qconfig = q.get_default_qat_qconfig("fbgemm") if way == "fused" else SEPARATE
        ready = q.prepare_qat(q.fuse_modules_qat(model, [["a", "n", "act"], ["b", "m"]]))
    ready(X)
    return ready.eval()


@pytest.mark.parametrize("way", ["fused", "separate", "graph"])
def test_with_scales_that_stand_still_it_is_exact(way: str) -> None:
    model = prepared(way)
    model.apply(q.disable_observer)
    before = Snapshot.of(model)
    slim: Any = shrink(model, X)
    assert_untouched(model, before)
    assert_shapes(slim, {"a.weight": (9, 3, 3, 3), "b.weight": (6, 9, 3, 3), "head.weight": (3, 6)})
    torch.testing.assert_close(slim(X), model(X), rtol=0, atol=1e-6)
    assert any("observer" in name or "activation_post_process" in name for name in slim.state_dict())


@pytest.mark.parametrize("way", ["fused", "graph"])
def test_observers_that_are_on_are_named(way: str) -> None:
    model = prepared(way)
    place = "enter.activation_post_process" if way == "fused" else "activation_post_process_0"
    with pytest.raises(ShrinkError) as caught:
        shrink(model, X)
    assert str(caught.value) == (
        f"Fake quantisation at {place}: its observer is on, so every call changes its scale. "
        "Call model.apply(torch.ao.quantization.disable_observer) before."
    )
