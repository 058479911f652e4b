"""Masked layers: torch's own forward, zero weights, zero gradients, through every kind of copy."""

from __future__ import annotations

import copy
import io
import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from campfire_fx.layers.masked import MaskedLayer, mask_layer, plain_class, unmask_layer, why_not_masked

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv1d": (lambda: nn.Conv1d(4, 6, 3), (2, 4, 8)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1), (2, 4, 5, 5)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 2), (1, 2, 4, 4, 4)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, bias=False), (2, 4, 5, 5)),
    "transposed1d": (lambda: nn.ConvTranspose1d(4, 6, 3), (2, 4, 5)),
    "transposed2d": (lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), (2, 4, 5, 5)),
    "transposed3d": (lambda: nn.ConvTranspose3d(2, 3, 2), (1, 2, 3, 3, 3)),
    "linear": (lambda: nn.Linear(7, 5), (3, 7)),
}


def masked(make: Callable[[], nn.Module]) -> MaskedLayer:
    layer = mask_layer(make())
    layer.set_mask(torch.rand_like(layer.weight) > 0.5)
    return layer


def assert_obeys(layer: nn.Module, x: Tensor) -> None:
    """The weight is zero under the mask, and so is the gradient; neither is zero elsewhere."""
    assert isinstance(layer, MaskedLayer)
    assert 0 < int(layer.mask.sum()) < layer.mask.numel()
    layer.zero_grad()
    layer(x).square().sum().backward()
    assert layer.weight.grad is not None
    assert torch.equal(layer.weight != 0, layer.mask)
    assert torch.equal(layer.weight.grad != 0, layer.mask)


@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
def test_a_masked_layer_computes_what_the_plain_one_does(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    plain, x = make(), torch.randn(shape)
    layer = mask_layer(copy.deepcopy(plain))
    assert type(layer).forward is type(plain).forward
    assert torch.equal(layer(x), plain(x))
    assert_obeys(masked(make), x)


@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
def test_filters_are_the_weights_behind_one_output(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    layer, x = mask_layer(make()), torch.randn(shape)
    filters = layer.as_filters(layer.mask)
    assert torch.equal(layer.from_filters(layer.as_filters(layer.weight)), layer.weight)
    filters = filters.clone()
    filters[1] = False
    layer.set_mask(layer.from_filters(filters))
    if isinstance(layer.bias, Tensor):
        nn.init.zeros_(layer.bias)
    axis = -1 if isinstance(layer, nn.Linear) else 1
    silent = [not bool(out.any()) for out in layer(x).unbind(axis)]
    assert silent == [k == 1 for k in range(filters.shape[0])]
    live = layer.live_filters()
    assert live is not None and live.tolist() == [float(k != 1) for k in range(filters.shape[0])]


def through_pickle(layer: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(layer))


def through_save(layer: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def through_double(layer: nn.Module) -> nn.Module:
    return layer.double().float()


def through_overwriting(layer: nn.Module) -> nn.Module:
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        return layer.double().float()  # each puts another parameter in place
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def through_meta(layer: nn.Module) -> nn.Module:
    state = layer.state_dict()
    empty = layer.to("meta").to_empty(device="cpu")  # another parameter takes the place of the first
    empty.load_state_dict(state)
    return empty


def through_assign(layer: nn.Module) -> nn.Module:
    state = {
        name: value.clone().requires_grad_(value.is_floating_point()) for name, value in layer.state_dict().items()
    }
    layer.load_state_dict(state, assign=True)
    return layer


def through_new_parameter(layer: nn.Module) -> nn.Module:
    layer.weight = nn.Parameter(layer.weight.detach().clone())
    return layer


@pytest.mark.parametrize(
    "through",
    [
        copy.deepcopy,
        through_pickle,
        through_save,
        through_double,
        through_overwriting,
        through_meta,
        through_assign,
        through_new_parameter,
    ],
)
def test_masks_and_gradient_zeroing_survive(through: Callable[[nn.Module], nn.Module]) -> None:
    layer = masked(LAYERS["conv2d"][0])
    mask = layer.mask.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = through(layer)
    assert isinstance(result, MaskedLayer) and torch.equal(result.mask, mask)
    assert_obeys(result, torch.randn(2, 4, 5, 5))


def test_gradients_are_zeroed_when_a_frozen_weight_is_thawed() -> None:
    layer = mask_layer(nn.Conv2d(4, 6, 3))
    layer.weight.requires_grad_(False)
    layer.set_mask(torch.rand_like(layer.weight) > 0.5)
    layer.weight.requires_grad_(True)
    layer.apply_mask()
    assert_obeys(layer, torch.randn(2, 4, 5, 5))


def test_accumulated_gradients_stay_zero() -> None:
    layer = masked(LAYERS["conv2d"][0])
    for _ in range(3):
        layer(torch.randn(2, 4, 5, 5)).sum().backward()
    assert layer.weight.grad is not None
    assert torch.equal(layer.weight.grad != 0, layer.mask)


def test_gradients_are_zeroed_under_compile() -> None:
    layer = masked(LAYERS["conv2d"][0])
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    compiled(torch.randn(2, 4, 5, 5)).square().sum().backward()
    assert layer.weight.grad is not None
    assert torch.equal(layer.weight.grad != 0, layer.mask)


def test_a_dense_state_dict_loads_and_is_masked() -> None:
    layer = masked(LAYERS["conv2d"][0])
    dense = nn.Conv2d(4, 6, 3)
    result = layer.load_state_dict(dense.state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    assert torch.equal(layer.weight, dense.weight * layer.mask)


def test_a_sparse_state_dict_brings_its_mask() -> None:
    first, second = masked(LAYERS["conv2d"][0]), masked(LAYERS["conv2d"][0])
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.mask, first.mask) and torch.equal(second.weight, first.weight)
    assert_obeys(second, torch.randn(2, 4, 5, 5))


def test_the_multiplier_follows_mask_dtype_and_layout() -> None:
    layer = mask_layer(nn.Conv2d(4, 6, 3))
    assert layer.multiplier() is None and layer.live_filters() is None  # nothing masked, nothing to pay
    layer.set_mask(torch.rand_like(layer.weight) > 0.5)
    first = layer.multiplier()
    assert first is not None and first is layer.multiplier()
    layer.mask[0] = False  # edited in place
    second = layer.multiplier()
    assert second is not None and torch.equal(second, layer.mask.int())
    layer.to(torch.bfloat16, memory_format=torch.channels_last)
    third = layer.multiplier()
    assert third is not None and third.dtype == torch.int16 and third.stride() == layer.weight.stride()


def test_unmasking_gives_torchs_layer_back() -> None:
    class Named(nn.Conv2d):
        """A subclass that adds nothing to forward."""

    for make in (Named, nn.Conv2d):
        layer = mask_layer(make(4, 6, 3))
        layer.set_mask(torch.rand_like(layer.weight) > 0.5)
        zeros = layer.weight == 0
        plain = unmask_layer(layer)
        assert type(plain) is nn.Conv2d
        assert set(plain.state_dict()) == {"weight", "bias"} and set(vars(plain)) == set(vars(nn.Conv2d(4, 6, 3)))
        plain(torch.randn(2, 4, 5, 5)).square().sum().backward()
        assert plain.weight.grad is not None
        assert bool((plain.weight.grad[zeros] != 0).all()), "the gradient is the layer's own again"


def test_masking_twice_changes_nothing() -> None:
    layer = masked(LAYERS["conv2d"][0])
    assert mask_layer(layer) is layer and 0 < int(layer.mask.sum()) < layer.mask.numel()


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


class Padded(nn.Conv2d):
    def _conv_forward(self, *args: Any) -> Tensor:
        return super()._conv_forward(*args)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Conv2d(2, 2, 1), ""),
        (Standardised(2, 2, 1), "it computes its output in a forward of its own"),
        (Padded(2, 2, 1), "it computes its output in a _conv_forward of its own"),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 1)), "its weight is computed, not a parameter"),
        (nn.BatchNorm2d(2), "it is no convolution or linear layer of torch's"),
    ],
)
def test_why_a_layer_holds_no_mask(module: nn.Module, reason: str) -> None:
    assert why_not_masked(module) == reason
    assert (plain_class(module) is None) == isinstance(module, nn.BatchNorm2d)


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, 0.1, eps=0.0),
        lambda p: torch.optim.RMSprop(p, 0.1, eps=0.0),
    ],
)
def test_an_infinite_gradient_under_the_mask_reaches_no_optimizer(make: Any, odd: float) -> None:
    layer = masked(lambda: nn.Linear(6, 5))
    optimizer = make([layer.weight])
    layer.weight.backward(torch.where(layer.mask, 1.0, odd))
    assert layer.weight.grad is not None
    assert not layer.weight.grad[~layer.mask].any() and layer.weight.grad[layer.mask].isfinite().all()
    assert torch.nn.utils.clip_grad_norm_([layer.weight], 1.0).isfinite()
    optimizer.step()
    layer.apply_mask()
    assert layer.weight.isfinite().all() and torch.equal(layer.weight != 0, layer.mask)


def test_a_weight_that_is_not_finite_under_the_mask_becomes_zero() -> None:
    layer = masked(lambda: nn.Conv2d(3, 4, 3))
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    state["weight"] = torch.where(layer.mask, state["weight"], math.nan)
    layer.load_state_dict(state)
    assert layer.weight.isfinite().all() and torch.equal(layer.weight != 0, layer.mask)
