"""Gradients of operations apart from each other, against autograd's, and the sparse backward against the formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from campfire_fx.layers.dense_weights import operations
from campfire_fx.layers.dense_weights.operations import ConvolutionOp, Operation, ProductOp
from tests.layers.dense_weights import reference

CASES = {
    "linear": (ProductOp(), (4, 6), (5, 6)),
    "linear of sequences": (ProductOp(), (4, 3, 6), (5, 6)),
    "conv1d": (ConvolutionOp((2,), (1,), (1,), False, (0,), 1), (2, 4, 9), (6, 4, 3)),
    "conv2d": (ConvolutionOp((1, 2), (1, 0), (1, 2), False, (0, 0), 1), (2, 4, 7, 9), (6, 4, 3, 3)),
    "grouped": (ConvolutionOp((1, 1), (1, 1), (1, 1), False, (0, 0), 2), (2, 4, 5, 5), (6, 2, 3, 3)),
    "conv3d": (
        ConvolutionOp((1,) * 3, (1,) * 3, (1,) * 3, False, (0,) * 3, 1),
        (2, 2, 4, 4, 4),
        (3, 2, 3, 3, 3),
    ),
    "transposed": (ConvolutionOp((2, 2), (1, 1), (1, 1), True, (1, 1), 1), (2, 4, 5, 5), (4, 6, 3, 3)),
}


@pytest.mark.parametrize(("operation", "x_shape", "w_shape"), CASES.values(), ids=CASES)
def test_gradients_are_autograds(operation: Operation, x_shape: tuple[int, ...], w_shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    outputs = w_shape[1] if getattr(operation, "transposed", False) else w_shape[0]
    shapes = (x_shape, w_shape, (outputs,))
    x, w, b = (torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes)
    y = operation.output(x, w, b)
    dy = torch.randn_like(y)
    dx, dw, db = torch.autograd.grad(y, (x, w, b), dy)
    torch.testing.assert_close(operation.input_gradient(dy, w, x_shape), dx)
    torch.testing.assert_close(operation.weight_gradient(dy, x, w_shape), dw)
    torch.testing.assert_close(operation.bias_gradient(dy), db)


def sparse_backward(x: Tensor, w: Tensor, b: Tensor, mask: Tensor, threshold: float) -> Tensor:
    operation = ConvolutionOp((1, 1), (1, 1), (1, 1), False, (0, 0), 1)
    return operations.sparse_backward(operation, x, w, b, mask, torch.tensor(threshold, dtype=x.dtype))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99])
def test_the_sparse_backward_is_the_papers(sparsity: float, layout: torch.memory_format) -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 4, 6, 6, dtype=torch.double).relu().to(memory_format=layout).requires_grad_()
    w = torch.randn(5, 4, 3, 3, dtype=torch.double, requires_grad=True)
    b = torch.randn(5, dtype=torch.double, requires_grad=True)
    w_sparse, x_sparse = reference.top(w, sparsity), reference.top(x, sparsity)
    expected = reference.conv(x, w, b, 1, w_sparse=w_sparse, x_sparse=x_sparse)
    found = sparse_backward(x, w, b, w_sparse != 0, reference.kth(x, sparsity))
    assert torch.equal(found, expected)  # the input is dense in the forward pass
    dy = torch.randn_like(found)
    for mine, papers in zip(*(torch.autograd.grad(y, (x, w, b), dy) for y in (found, expected)), strict=True):
        torch.testing.assert_close(mine, papers, rtol=1e-12, atol=1e-12)


def test_the_weights_gradient_is_dense() -> None:
    x, w = torch.randn(2, 4, 6, 6), torch.randn(5, 4, 3, 3, requires_grad=True)
    mask = torch.rand_like(w) > 0.9
    sparse_backward(x, w, torch.zeros(5), mask, 0.5).sum().backward()
    assert w.grad is not None and bool((w.grad != 0).all())


@pytest.mark.parametrize("frozen", ["x", "w", "b"])
def test_what_needs_no_gradient_gets_none_and_keeps_nothing(frozen: str) -> None:
    tensors = {"x": torch.randn(2, 4, 6, 6), "w": torch.randn(5, 4, 3, 3), "b": torch.randn(5)}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name != frozen)
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        out = sparse_backward(*tensors.values(), torch.ones(5, 4, 3, 3, dtype=torch.bool), 0.0)
    out.sum().backward()
    assert {name for name, tensor in tensors.items() if tensor.grad is None} == {frozen}
    assert (2 * 4 * 6 * 6 in saved) == (frozen != "w")


@pytest.mark.parametrize(("operation", "x_shape", "w_shape"), CASES.values(), ids=CASES)
def test_with_the_whole_input_the_gradient_goes_straight_through_to_the_bit(
    operation: Operation, x_shape: tuple[int, ...], w_shape: tuple[int, ...]
) -> None:
    torch.manual_seed(5)
    x, w = (torch.randn(shape, requires_grad=True) for shape in (x_shape, w_shape))
    mask = torch.rand(w_shape) < 0.5
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        y = operations.sparse_backward(operation, x, w, None, mask, None)
    dy = torch.randn_like(y)
    apart = [operation.input_gradient(dy, w.detach() * mask, x_shape), operation.weight_gradient(dy, x, w_shape)]
    for mine, theirs in zip(torch.autograd.grad(y, (x, w), dy), apart, strict=True):
        assert torch.equal(mine, theirs)
    assert x.data_ptr() in kept  # no copy of it is packed


def test_no_gradient_of_a_gradient_is_promised() -> None:
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    w, b, mask = torch.randn(5, 4, 3, 3, requires_grad=True), torch.zeros(5), torch.ones(5, 4, 3, 3, dtype=torch.bool)
    (dx,) = torch.autograd.grad(sparse_backward(x, w, b, mask, 0.0).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


def test_the_reference_is_dense_where_nothing_is_sparse() -> None:
    x, w, b = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5)
    assert torch.allclose(reference.linear(x, w, b, w_sparse=w, x_sparse=x), F.linear(x, w, b), atol=1e-6)
