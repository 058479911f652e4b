"""Modules, parameters and buffers that no graph reads any more are gone from the result."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from campfire_fx import shrink
from campfire_fx.passes.drop_unused import keep_only, used_paths
from tests.assertions import assert_same_output
from tests.nets.case import conv, named
from tests.random_zeros import randomise


def test_only_what_is_on_a_path_stays() -> None:
    model = named(a=named(x=conv(3, 4), y=conv(4, 4)), b=conv(4, 2), c=nn.Sequential(nn.ReLU()))
    model.register_buffer("seen", torch.zeros(1))
    model.register_parameter("free", nn.Parameter(torch.zeros(1)))
    keep_only(model, ["a.y", "free"])
    assert set(dict(model.named_modules())) == {"", "a", "a.y"}
    assert set(model.state_dict()) == {"a.y.weight", "free"}


def test_a_layer_that_is_left_with_its_weight_can_be_printed() -> None:
    model = named(a=nn.Linear(3, 4), b=nn.Linear(3, 4, bias=False))
    assert keep_only(model, ["a.weight", "b.weight"])
    assert set(model.state_dict()) == {"a.weight", "b.weight"} and repr(model).count("bias=False") == 2
    assert not keep_only(model, ["a.weight", "b.weight"])


def test_the_paths_of_a_graph() -> None:
    traced = torch.fx.symbolic_trace(named(a=conv(3, 4), b=nn.ReLU()))
    assert used_paths([traced.graph]) == {"a", "b"}


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
