"""Master layers: every kind computes as the plain one does on the weight under the mask, in every mode."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from campfire_fx.layers.dense_weights import DenseWeightsLayer, keep_dense_weights, release_dense_weights
from campfire_fx.layers.dense_weights.layers import count_kept, largest_kept
from campfire_fx.layers.masked import mask_layer, unmask_layer
from tests.layers.dense_weights import reference

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 5), (3, 6)),
    "sequences": (lambda: nn.Linear(6, 5, bias=False), (3, 4, 6)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 5), padding=(1, 2), dilation=(2, 1)), (2, 4, 8, 8)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, bias=False), (2, 4, 6, 6)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, padding=1), (2, 4, 6, 6)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 3, padding=1), (2, 2, 4, 4, 4)),
    "same": (lambda: nn.Conv2d(4, 6, (2, 3), padding="same"), (2, 4, 6, 6)),
    "valid": (lambda: nn.Conv2d(4, 6, 3, padding="valid"), (2, 4, 6, 6)),
    "circular": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 6, 6)),
    "reflect": (lambda: nn.Conv1d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 6)),
    "one image": (lambda: nn.Conv2d(4, 6, 3, padding=1), (4, 6, 6)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2), (2, 4, 5)),
    "transposed 2d": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), (2, 4, 5, 5)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(4, 6, 2, groups=2), (2, 4, 3, 3, 3)),
}


def fraction(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.double)


def dense_of(make: Any) -> tuple[DenseWeightsLayer, nn.Module]:
    """Return a layer with a dense master weight, and a plain one whose weight is zero under the same mask."""
    torch.manual_seed(5)
    plain = make()
    layer = keep_dense_weights(mask_layer(copy.deepcopy(plain)))
    layer.set_mask(torch.rand_like(layer.weight) > 0.6)
    with torch.no_grad():
        plain.weight.mul_(layer.mask)
    return layer, plain


@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
def test_every_kind_is_the_plain_layer_with_dense_gradients(make: Any, shape: tuple[int, ...]) -> None:
    layer, plain = dense_of(make)
    layer.kept_inputs = fraction(1.0)
    x = torch.randn(shape)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected, found = plain(theirs), layer(mine)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(layer.eval()(x), expected)
    dy = torch.randn_like(found)
    found.backward(dy)
    expected.backward(dy)
    torch.testing.assert_close(mine.grad, theirs.grad)
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad, plain.get_parameter(name).grad)
    assert bool((layer.weight[~layer.mask] != 0).all())


def test_an_output_size_is_obeyed() -> None:
    layer, plain = dense_of(lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1))
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(layer(x, [10, 10]), plain(x, [10, 10]))
    torch.testing.assert_close(layer(x, output_size=[9, 9]), plain(x, output_size=[9, 9]))


@given(st.integers(1, 60), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.999]), st.booleans())
def test_the_threshold_keeps_k_of_the_largest_and_all_that_tie(size: int, sparsity: float, ties: bool) -> None:
    torch.manual_seed(size)
    x = torch.randint(-3, 4, (size,)).float() if ties else torch.randn(size)
    k = math.ceil(round((1 - sparsity) * size, 9))
    assert count_kept(size, 1 - sparsity) == k
    threshold = largest_kept(x, fraction(1 - sparsity))
    kept = int((x.abs() >= threshold).sum())
    assert kept >= k if ties else kept == k
    if k < size:
        assert float(threshold) == reference.kth(x, sparsity)


def test_the_inputs_threshold_moves_only_when_it_is_refreshed() -> None:
    layer, _ = dense_of(lambda: nn.Linear(6, 5))
    layer.kept_inputs, layer.refreshing = fraction(0.5), True
    first = torch.randn(4, 6)
    layer(first)
    assert float(layer.input_threshold) == reference.kth(first, 0.5)
    layer.refreshing = False
    layer(10 * first)
    assert float(layer.input_threshold) == reference.kth(first, 0.5)
    layer.refreshing = True
    with torch.no_grad():
        layer(10 * first)  # nothing is kept for a backward pass
    layer.eval()(10 * first)
    assert float(layer.input_threshold) == reference.kth(first, 0.5)


def test_its_weight_gradient_sees_the_largest_inputs_only() -> None:
    layer, _ = dense_of(lambda: nn.Linear(6, 5))
    layer.kept_inputs = fraction(0.25)
    x = torch.randn(4, 6)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, torch.ones(5, 4) @ reference.top(x, 0.75))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["linear", "conv2d"])
def test_autocast_computes_in_half_and_returns_gradients_in_full(kind: str, dtype: torch.dtype) -> None:
    make, shape = LAYERS[kind]
    layer, plain = dense_of(make)
    layer.kept_inputs = fraction(1.0)
    x = torch.randn(shape)
    with torch.autocast("cpu", dtype):
        found, expected = layer(x), plain(x)
        assert torch.equal(layer.eval()(x), expected)
    assert found.dtype == dtype and torch.equal(found, expected)
    found.sum().backward()
    expected.sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad, rtol=2e-2, atol=2e-2)


def test_released_it_is_an_ordinary_masked_layer_and_its_weight_zero_under_the_mask() -> None:
    layer, plain = dense_of(lambda: nn.Conv2d(4, 6, 3))
    x = torch.randn(2, 4, 6, 6)
    keys = layer.state_dict().keys()
    release_dense_weights(layer)
    assert type(layer).__name__ == "MaskedConv2d" and torch.equal(layer.weight, plain.weight)
    assert layer.state_dict().keys() == keys - {"weight_threshold", "input_threshold"}
    layer(x).sum().backward()
    assert layer.weight.grad is not None and not layer.weight.grad[~layer.mask].any()
    assert type(unmask_layer(layer)) is nn.Conv2d
