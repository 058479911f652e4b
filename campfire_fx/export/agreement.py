"""What the model answers, on which inputs, and whether an exported file answers the same.

`reference_runs` runs the model on the example and, where the model can, on another batch size and another
spatial size. `difference` is the largest `max|a - b| / max|a|` over the tensors of a run.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.base.comparison import gap_and_scale
from campfire_fx.base.compat import pytree
from campfire_fx.base.errors import ExportError
from campfire_fx.base.location import SIGNATURES
from campfire_fx.capture import unfit

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 8e-2}
"""Largest relative difference that passes, by the coarsest dtype that the model computes in."""
_FAINT = 1e-3  # as a detector answers noise: nothing there


@dataclass(frozen=True, slots=True, eq=False)
class ModelRun:
    """One call of the model: its arguments, and the tensors that came out, in order."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Any, ...]


class Called(nn.Module):
    """A function of tensors where a model is asked for; a model in it is no part of this one, and stays as it is."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = (function,)

    def forward(self, *inputs: Any) -> Any:
        """Call it."""
        return self._function[0](*inputs)


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """The calls that a file must reproduce.

    Attributes:
        example: the example.
        batch: one more sample; None where the model takes no more.
        space: larger along `axes`, and one more sample where the model takes that; None where it runs at one size only.
        axes: those of its inputs, 2 and up, that the model takes at another size.
        tolerance: largest relative difference that passes.
    """

    example: ModelRun
    batch: ModelRun | None
    space: ModelRun | None
    axes: frozenset[int]
    tolerance: float

    def __iter__(self) -> Iterator[ModelRun]:
        return (run for run in (self.example, self.batch, self.space) if run is not None)


def reference_runs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Runs:
    """Run the model on the example, on one more sample, and on a larger image: larger along all axes that allow it.

    Raises:
        ExportError: the model fails on the example, or answers with NaN or infinity.
    """
    try:
        example = run_once(model, args, kwargs)
    except Exception as error:
        told = unfit(args, kwargs)
        raise ExportError(
            f"Example inputs at {type(model).__name__}: {told}"
            if told
            else f"the model does not run on the example inputs: {first_line(error)}. "
            "Pass example_inputs that its forward takes."
        ) from error
    if not _finite(example):
        raise ExportError(
            "the model's outputs on the example inputs are not finite, so no file can be compared with them. "
            "Check its weights and the example for NaN and infinity."
        )
    longer = _attempt(model, *_resized((args, kwargs), batch=True))
    larger, axes = _larger(model, (args, kwargs), batch=longer is not None)
    return Runs(example, longer, larger, axes, _tolerance(model, example))


def _larger(model: nn.Module, inputs: Any, *, batch: bool) -> tuple[ModelRun | None, frozenset[int]]:
    """Run the model on larger inputs: along all axes from 2 up, else along those that it takes one by one.

    A line of text is read at any width and one height: the height is in the weights of what reads its columns.
    """
    dims = max((leaf.dim() for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)), default=0)
    every = frozenset(range(2, dims))

    def run(axes: frozenset[int]) -> ModelRun | None:
        return _attempt(model, *_resized(inputs, batch=batch, axes=axes)) if axes else None

    if (found := run(every)) is not None or len(every) < 2:
        return found, every if found is not None else frozenset()
    single = {axis: found for axis in sorted(every) if (found := run(frozenset({axis}))) is not None}
    if len(single) > 1 and (found := run(frozenset(single))) is not None:
        return found, frozenset(single)
    return next(((found, frozenset({axis})) for axis, found in single.items()), (None, frozenset()))


def difference(candidate: Callable[..., Any], run: ModelRun, floor: float = 0.0) -> float:
    """Return the candidate's distance from the run's outputs, relative to their largest; inf if unlike.

    An output whose largest entry is below `floor` is measured as if that were the floor.
    """
    with torch.no_grad(), _same_draws():
        found = pytree.tree_leaves(candidate(*_cloned(run.args), **_cloned(run.kwargs)))
    if len(found) != len(run.outputs):
        return math.inf
    return max((_distance(a, b, floor) for a, b in zip(run.outputs, found, strict=True)), default=0.0)


def faintness(run: ModelRun) -> str:
    """Return what to do about a difference where rounding may be all of it; "" where no output is faint."""
    tensors = [value for value in run.outputs if isinstance(value, Tensor) and value.numel()]
    scale = min((float(value.abs().max()) for value in tensors), default=1.0)
    if scale >= _FAINT:
        return ""
    return f"No entry of an output exceeds {scale:.0e} on the example, so rounding counts: give inputs that it answers."


def first_line(error: BaseException) -> str:
    """Return an error's type and the start of its text, as part of a sentence."""
    lines = str(error).strip().splitlines()
    return (
        f"{type(error).__name__}: {shorten(lines[0].removesuffix(SIGNATURES), 160).rstrip('.')}"
        if lines
        else type(error).__name__
    )


def batch_size(inputs: Any) -> int | None:
    """Return the size of the first axis of the first tensor among the inputs that has axes."""
    return next(
        (leaf.shape[0] for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor) and leaf.dim()),
        None,
    )


def run_once(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelRun:
    """Call a model, or what is called like one, and note what it answers; the inputs are not written over."""
    with torch.no_grad(), _same_draws():
        outputs = model(*_cloned(args), **_cloned(kwargs))
    return ModelRun(args, kwargs, tuple(pytree.tree_leaves(outputs)))


@contextlib.contextmanager
def _same_draws() -> Iterator[None]:
    """Begin the random numbers of a block anew, the same each time: a model may draw some in evaluation, too."""
    with torch.random.fork_rng(devices=[]):  # everything here runs on the CPU
        torch.manual_seed(0)
        yield


def _attempt(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelRun | None:
    """Run the model on inputs that it need not accept."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # torch.fx prints the line of the graph that failed
            run = run_once(model, args, kwargs)
    except Exception:  # noqa: BLE001 - whatever it is, it means that this size is not for this model
        return None
    return run if _finite(run) else None


def _cloned(inputs: Any) -> Any:
    """Copy the tensors, so that a model that writes into its input leaves the run's as it was."""
    return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, inputs)


def _resized(inputs: Any, *, batch: bool, axes: Collection[int] = ()) -> Any:
    """Return new random inputs like these, one sample more if asked, and larger along some axes."""
    samples = batch_size(inputs)
    generator = torch.Generator().manual_seed(0)

    def resize(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        for axis, size in enumerate(leaf.shape):
            extra = int(batch and size == samples) if axis == 0 else (min(size, 32) if axis in axes else 0)
            leaf = leaf.index_select(axis, torch.arange(size + extra) % max(size, 1))
        if not leaf.is_floating_point():
            return leaf
        spread = leaf.float().std(correction=0).item() or 1.0
        noise = torch.randn(leaf.shape, generator=generator) * spread
        return leaf + noise.to(leaf.dtype)

    return pytree.tree_map(resize, inputs)


def _finite(run: ModelRun) -> bool:
    return all(leaf.isfinite().all() for leaf in run.outputs if isinstance(leaf, Tensor))


def _tolerance(model: nn.Module, run: ModelRun) -> float:
    tensors = (*model.parameters(), *(leaf for leaf in run.outputs if isinstance(leaf, Tensor)))
    return max((TOLERANCES.get(tensor.dtype, 0.0) for tensor in tensors), default=0.0) or TOLERANCES[torch.float32]


def _distance(expected: Any, found: Any, floor: float) -> float:
    if not isinstance(expected, Tensor) or not isinstance(found, Tensor):
        return 0.0 if expected == found else math.inf
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return math.inf
    gap, scale = gap_and_scale(expected, found)
    scale = max(scale, floor)
    return gap / scale if scale else gap
