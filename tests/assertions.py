"""What every shrink is measured by. Tolerances are constants: float64 1e-10, float32 1e-5, relative to the output."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tests.snapshot import Snapshot, assert_untouched

__all__ = ["Snapshot", "assert_untouched"]

DOUBLE = 1e-10
SINGLE = 1e-5


@contextmanager
def reproducible(snippet: str) -> Iterator[None]:
    """Add to any failure inside the code that shows it again."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}\n\nTo see it again:\n{snippet}") from error


def outputs(model: nn.Module, inputs: Iterable[Any]) -> list[Tensor]:
    """Run a model in evaluation mode on copies of the inputs; return every tensor of its output, in order."""
    flags = [(module, module.training) for module in model.modules()]
    args = pytree.tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, tuple(inputs))
    try:
        with torch.no_grad():
            found = model.eval()(*args)
    finally:
        for module, training in flags:
            module.training = training
    return [leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, Tensor)]


def difference(expected: list[Tensor], got: list[Tensor]) -> float:
    """Return the largest |a - b| / max |a| over the tensors of two outputs; shapes and dtypes must agree."""
    forms = [(tuple(t.shape), t.dtype) for t in expected]
    assert forms == [(tuple(t.shape), t.dtype) for t in got], f"the outputs were {forms}, now {got}"
    worst = 0.0
    for a, b in zip(expected, got, strict=True):
        assert torch.isfinite(a).all(), "the output of the model given is not finite: the test proves nothing"
        assert torch.isfinite(b).all(), "the output is not finite"
        if a.numel():
            a, b = (torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in (a, b))
            a, b = a.double(), b.double()
            worst = max(worst, float((a - b).abs().max() / a.abs().max().clamp(min=1e-300)))
    return worst


def assert_same_output(before: nn.Module, after: nn.Module, inputs: Iterable[Any]) -> None:
    """Both models, as they are, give the same output for these inputs, to the tolerance of the inputs' dtype."""
    inputs = tuple(inputs)
    dtype = next(t.dtype for t in pytree.tree_leaves(inputs) if isinstance(t, Tensor) and t.is_floating_point())
    limit = {torch.float64: DOUBLE, torch.float32: SINGLE}[dtype]
    found = difference(outputs(before, inputs), outputs(after, inputs))
    shapes = [tuple(t.shape) for t in pytree.tree_leaves(inputs) if isinstance(t, Tensor)]
    assert found <= limit, f"the outputs differ by {found:.2e} > {limit:.0e} in {dtype} at {shapes}"


def assert_same_function(before: nn.Module, after: nn.Module, *examples: Iterable[Any]) -> None:
    """Two models give the same output for each of the inputs, in float64 and in float32."""
    for dtype in (torch.float64, torch.float32):
        old, new = (copy.deepcopy(model).to(dtype) for model in (before, after))
        for inputs in examples:
            assert_same_output(old, new, cast(inputs, dtype))


def assert_says_something(model: nn.Module, inputs: Iterable[Any]) -> None:
    """The output of a model is not constant, and changes with the input: else equality proves nothing."""
    assert says_something(model, inputs), "the output is constant, or does not change with the input"


def says_something(model: nn.Module, inputs: Iterable[Any]) -> bool:
    """Say whether the output of a model is not constant, and changes with the input."""
    inputs = tuple(inputs)
    first = outputs(model, inputs)
    other = pytree.tree_map(lambda v: v.flip(-1) * 0.7 + 0.3 if _is_data(v) else v, inputs)
    second = outputs(model, other)
    spread = max(float(t.double().std()) for t in first if t.numel() > 1)
    moved = max(float((a.double() - b.double()).abs().max()) for a, b in zip(first, second, strict=True))
    return spread > 1e-8 and moved > 1e-8


def assert_shapes(model: nn.Module, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Parameters and buffers have exactly these shapes; None stands for one that must be gone."""
    state = model.state_dict()
    got = {name: tuple(state[name].shape) if name in state else None for name in expected}
    wrong = [f"{name} is {got[name]}, not {shape}" for name, shape in expected.items() if got[name] != shape]
    assert not wrong, "; ".join(wrong)


def parameters(model: nn.Module) -> int:
    """Count the parameters of a model; shared ones once."""
    return sum(p.numel() for p in model.parameters())


def assert_smaller(before: nn.Module, after: nn.Module) -> None:
    """The second model has fewer parameters than the first."""
    old, new = parameters(before), parameters(after)
    assert new < old, f"{new} parameters are left of {old}"


def assert_not_larger(before: nn.Module, after: nn.Module, allowance: int = 0) -> None:
    """The second model has no more parameters than the first, plus biases that folding may have to make."""
    old, new = parameters(before), parameters(after)
    assert new <= old + allowance, f"{new} parameters are left of {old}"


def assert_shares_no_memory(before: nn.Module, after: nn.Module) -> None:
    """No parameter or buffer of the second model lies in the memory of the first."""
    old = {t.untyped_storage().data_ptr() for t in before.state_dict().values() if t.numel()}
    shared = [name for name, t in after.state_dict().items() if t.numel() and t.untyped_storage().data_ptr() in old]
    assert not shared, f"{shared} share memory with the model given"


def cast(values: Any, dtype: torch.dtype) -> Any:
    """Return values, however nested, with their floating-point tensors in a dtype."""
    return pytree.tree_map(lambda v: v.to(dtype) if _is_data(v) else v, tuple(values))


def _is_data(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
