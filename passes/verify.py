"""Prove that two models compute the same function: on random inputs, at two sizes, in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from campfire_fx.errors import ShrinkError
from campfire_fx.passes.copies import private_copy
from campfire_fx.passes.replay import Replay
from campfire_fx.plan import Verification, VerifiedRun

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


class DifferentOutput(ShrinkError):
    """The smaller model computes something else."""


def verify(
    before: nn.Module,
    after: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    resize: bool = True,
    opaque: Sequence[str] = (),
) -> Verification:
    """Compare the outputs of two models on random inputs.

    Difference is max |a - b| / max |a| over every output tensor. Where it exceeds the tolerance of the models'
    own precision (1e-5 in float32, 1e-10 in float64), both are compared again in float64, which tells rounding
    from a fault.

    Args:
        before: the larger model; both are run in evaluation mode and left as they were.
        after: the smaller one.
        args: positional example inputs; float tensors are replaced by random numbers of the same shape.
        kwargs: keyword example inputs, likewise.
        resize: also compare at another batch and image size, where `before` can be run there.
        opaque: paths of submodules of both that are the same code: their inputs are compared, their outputs replayed.

    Raises:
        ShrinkError: the outputs differ, or are not finite.
    """
    runs = []
    dtype = next((p.dtype for p in before.parameters()), torch.float32).to_real()
    for inputs in _inputs(before, args, kwargs, resize):
        difference = relative_difference(before, after, *inputs, opaque)
        used = dtype
        if not difference <= TOLERANCE.get(dtype, 0.0):
            used, difference = torch.float64, _in_double(before, after, inputs, opaque)
        shape = next((tuple(t.shape) for t in pytree.tree_leaves(inputs) if isinstance(t, Tensor)), ())
        runs.append(VerifiedRun(shape, str(used).removeprefix("torch."), difference))
        limit = TOLERANCE.get(dtype, 2 * torch.finfo(dtype).eps)  # a folded bias is rounded to the weights' precision
        if not difference <= limit:
            raise DifferentOutput(
                f"Shrinking would change the output at input shape {shape}: the largest relative difference is "
                f"{difference:.2e}, more than {limit:.0e}. The model is left as it was."
            )
    return Verification(max(run.difference for run in runs), tuple(runs))


def _in_double(
    before: nn.Module, after: nn.Module, inputs: tuple[tuple[Any, ...], dict[str, Any]], opaque: Sequence[str]
) -> float:
    args, kwargs = pytree.tree_map(
        lambda v: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v, inputs
    )
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Doubled():
            return relative_difference(
                private_copy(before).double(), private_copy(after).double(), args, kwargs, opaque
            )
    finally:
        torch.set_default_dtype(default)


class _Doubled(TorchFunctionMode):
    """Turns every cast to float32 that a model writes out into one to float64, so that it runs there at all."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.Tensor.float:
            return args[0].double()
        args, kwargs = pytree.tree_map(lambda v: torch.float64 if v is torch.float32 else v, (args, kwargs or {}))
        return function(*args, **kwargs)


def relative_difference(
    before: nn.Module, after: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], opaque: Sequence[str] = ()
) -> float:
    """Return max |a - b| / max |a| over all output tensors, and what enters opaque parts, in evaluation mode.

    Raises:
        ShrinkError: an output of `before` is not finite, or the outputs are of different form.
    """
    replay = Replay(opaque)
    with replay.recording(before):
        expected = _tensors(_run(before, args, kwargs)) + replay.given
    with replay.playing(after):
        got = _tensors(_run(after, args, kwargs)) + replay.received
    if [t.shape for t in expected] != [t.shape for t in got]:
        raise DifferentOutput(
            f"Shrinking would change the form of the output: {[tuple(t.shape) for t in expected]} became "
            f"{[tuple(t.shape) for t in got]}. The model is left as it was."
        )
    worst = 0.0
    for a, b in zip(expected, got, strict=True):
        if not torch.isfinite(a).all():
            raise ShrinkError(
                "The model's outputs are not finite (NaN or infinity), so equality cannot be proven. "
                "Check its weights and normalisation statistics, or pass verify=False."
            )
        if a.numel():
            if a.is_complex():
                a, b = torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj())
            a, b = a.double(), b.double()
            worst = max(worst, float((a - b).abs().max() / a.abs().max().clamp(min=1e-30)))
    return worst


def _tensors(output: Any) -> list[Tensor]:
    return [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]


def _run(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, kwargs = pytree.tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, (args, kwargs))
    with evaluating(model), torch.no_grad():
        return model(*args, **kwargs)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode, and every module back in its own mode afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def _inputs(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], resize: bool
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Yield random inputs of the example's shape, then of the first other size that the model accepts."""
    generator = torch.Generator().manual_seed(0)
    yield _random((args, kwargs), generator, lambda shape: shape)
    for step in _STEPS if resize else ():
        if step and not any(_resizable(tensor.shape, step) for tensor in _tensors((args, kwargs))):
            continue
        other = _random((args, kwargs), generator, lambda shape, step=step: _other_size(shape, step))
        try:
            _run(model, *other)
        except Exception:  # noqa: BLE001  whatever a model says about sizes that it cannot take
            continue
        yield other
        return


_STEPS = (-32, 8, 32, 16, 0)
_SMALLEST = 32  # pixels: networks may well refuse images smaller than this


def _resizable(shape: torch.Size, step: int) -> bool:
    return len(shape) > 2 and any(step > 0 or size + step >= _SMALLEST for size in shape[2:])


def _other_size(shape: torch.Size, step: int) -> list[int]:
    """One more in the batch; `step` more pixels along each dimension of space that stays large enough."""
    if len(shape) < 3:
        return list(shape) if len(shape) < 2 else [shape[0] + 1, *shape[1:]]
    space = [s + step if step > 0 or s + step >= _SMALLEST else s for s in shape[2:]]
    return [shape[0] + 1, shape[1], *space]


def _random(inputs: Any, generator: torch.Generator, resized: Any) -> Any:
    def one(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        shape = resized(value.shape)
        if value.is_floating_point():
            return torch.randn(shape, generator=generator).to(value)
        return value if list(shape) == list(value.shape) else value.new_zeros(shape)

    return pytree.tree_map(one, inputs)
