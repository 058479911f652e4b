"""What graphs use of a module, and the module without the rest."""

from __future__ import annotations

import torch
from torch import nn

from campfire_fx.layers.unused import keep_only, used_paths
from tests.nets.case import conv, named


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
