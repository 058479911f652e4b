"""Whose computation a module performs: torch's, or its own."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from campfire_fx.base.torch_classes import is_torchs_own, overridden, torch_class
from campfire_fx.layers.masked import mask_layer


class Named(nn.Conv2d):
    """Overrides nothing that computes."""

    def extra_repr(self) -> str:
        return "named"

    def added(self) -> int:
        return 1


class Scaled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


class Padded(nn.Conv2d):
    def _conv_forward(self, *args: Any) -> Tensor:
        return super()._conv_forward(*args)


class Called(nn.Conv2d):
    def __call__(self, *args: Any) -> Any:
        return -super().__call__(*args)


class Halved:
    @property
    def weight(self) -> Tensor:
        return torch.zeros(1)


class Computed(Halved, nn.Linear):
    """A property of a class that is no module."""


@pytest.mark.parametrize("cls", [nn.Conv2d, Named])
def test_a_subclass_that_only_adds_computes_what_torchs_does(cls: type[nn.Conv2d]) -> None:
    assert torch_class(cls(1, 1, 1)) is nn.Conv2d
    assert is_torchs_own(cls(1, 1, 1)) and not overridden(cls, nn.Conv2d)


def test_masked_layers_and_layers_of_private_classes_compute_what_torchs_do() -> None:
    attention = nn.MultiheadAttention(4, 2)
    assert type(attention.out_proj) is not nn.Linear
    assert torch_class(attention.out_proj) is nn.Linear
    assert torch_class(mask_layer(nn.Conv2d(1, 1, 1))) is nn.Conv2d


@pytest.mark.parametrize(
    ("cls", "base", "name"),
    [
        (Scaled, nn.Conv2d, "forward"),
        (Padded, nn.Conv2d, "_conv_forward"),
        (Called, nn.Conv2d, "__call__"),
        (Computed, nn.Linear, "weight"),
    ],
)
def test_what_the_output_may_depend_on_makes_it_its_own(cls: type[nn.Module], base: type[nn.Module], name: str) -> None:
    module = cls.__new__(cls)
    nn.Module.__init__(module)
    assert overridden(cls, base) == name
    assert torch_class(module) is None and not is_torchs_own(module)


def test_a_forward_of_the_object_makes_it_its_own() -> None:
    relu = nn.ReLU()
    relu.forward = types.MethodType(lambda self, x: -x, relu)
    assert torch_class(relu) is None and not is_torchs_own(relu)


def test_containers_and_modules_of_no_class_of_torchs_are_none() -> None:
    for module in (nn.Module(), nn.Sequential(nn.ReLU()), nn.ModuleList(), torch.fx.symbolic_trace(nn.ReLU())):
        assert torch_class(module) is None and not is_torchs_own(module)


def test_a_parametrised_layer_is_of_the_class_it_had() -> None:
    layer = parametrizations.weight_norm(nn.Linear(2, 2))
    assert type(layer) is not nn.Linear and torch_class(layer) is nn.Linear
