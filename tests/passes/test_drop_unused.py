"""Modules, parameters and buffers that no graph reads any more are gone from the result."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from campfire_fx import shrink
from tests.assertions import assert_same_output
from tests.nets.case import conv
from tests.random_zeros import randomise


def test_a_dead_branch_goes_with_its_layers() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.dead, self.never, self.out = conv(3, 4), conv(4, 4), conv(4, 4), conv(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return self.out(torch.cat([y, self.dead(y)], 1))

    model = randomise(Net().double(), 0)
    with torch.no_grad():
        model.out.weight[:, 4:] = 0
    x = torch.randn(1, 3, 5, 5).double()
    slim = shrink(model, x)
    assert_same_output(model, slim, (x,))
    assert {name for name, _ in slim.named_children()} == {"a", "out"}
    assert [node.target for node in slim.graph.find_nodes(op="call_module")] == ["a", "out"]  # type: ignore[union-attr,operator]
