"""Prove that two models compute the same function: on random inputs, at two sizes, in evaluation mode."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.plan import Verification, VerifiedRun
from campfire_fx.base.comparison import gap_and_scale
from campfire_fx.base.doubled import Doubled as _Doubled
from campfire_fx.base.doubled import doubled
from campfire_fx.base.draws import Generators, is_drawn_by_torch
from campfire_fx.base.errors import ShrinkError
from campfire_fx.base.location import summary as first_line
from campfire_fx.base.nested import tensors_of
from campfire_fx.capture import is_refusal
from campfire_fx.layers.dual import DualGraphModule
from campfire_fx.shrink.replay import Replay
from campfire_fx.shrink.rerun import Lent, Rerun
from campfire_fx.shrink.trials import Inputs, Trials, has_batch, shape_of

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


class DifferentOutput(ShrinkError):
    """The smaller model computes something else."""


class RefusedByGuard(Exception):
    """A guard of the smaller model says that inputs of this size are not for it."""


class NotFinite(ShrinkError):
    """The larger model gives NaN or infinity, of which nothing can be proven."""


def verify(
    before: nn.Module,
    after: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    opaque: Sequence[str] = (),
    doing: str = "Shrinking",
) -> Verification:
    """Compare the outputs of two models on random inputs: as large as the example, and of another size.

    The other batch and image size is one that `before` runs at, that the guards of `after` let pass, and at which the
    batch axes of input and output do not part; where there is none, there is nothing more to compare.

    Difference is max |a - b| / max |a| over every output tensor. Where it exceeds the tolerance of the models'
    own precision (1e-5 in float32, 1e-10 in float64), both are compared again in float64, which tells rounding
    from a fault. Both draw the same random numbers.

    Args:
        before: the larger model; copies of both are run in evaluation mode.
        after: the smaller one.
        args: positional example inputs; images are replaced by random numbers of the same shape, see `Trials`.
        kwargs: keyword example inputs, likewise.
        opaque: paths of submodules of both that are the same code: their inputs are compared, their outputs replayed.
        doing: what made the smaller one, for errors.

    Raises:
        ShrinkError: the outputs differ, or are not finite.
    """
    comparison = _Comparison(before, after, opaque, doing=doing)
    trials = Trials((args, kwargs))
    expected, fill = _of_its_size(comparison, trials)
    runs = [comparison.compared(expected)]
    for inputs in trials.of_other_sizes(fill):
        other = _tried(comparison, inputs)
        if other is None or (expected.keeps_batch and not other.keeps_batch):
            continue
        try:
            runs.append(comparison.compared(other))
        except RefusedByGuard:
            continue
        break
    return Verification(max(run.difference for run in runs), tuple(runs))


def verify_parts(before: nn.Module, after: nn.Module, captured: Captured, doing: str = "Shrinking") -> Verification:
    """Verify every captured part on every example.

    A model captured in parts is compared part by part: what lies between, or is opaque, may choose by value (a
    detector keeps its best boxes), and there the last bit decides.

    Args:
        before: the model given.
        after: what became of it; its captured parts are where they were.
        captured: which parts, and the examples.
        doing: what became of it, for errors.

    Raises:
        ShrinkError: the outputs of a part differ, or are not finite.
    """
    runs: list[VerifiedRun] = []
    for island in captured.islands:
        parts = before.get_submodule(island.path), after.get_submodule(island.path)
        for args, kwargs in (call for variant in island.variants for call in variant.examples):
            runs += verify(*parts, args, kwargs, opaque=island.opaque, doing=doing).runs
    return Verification(max(run.difference for run in runs), tuple(runs))


def relative_difference(before: nn.Module, after: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """Return max |a - b| / max |a| over all output tensors, in evaluation mode, on these inputs.

    Raises:
        ShrinkError: an output of `before` is not finite, or the outputs are of different form.
    """
    comparison = _Comparison(before, after, (), doing="Shrinking")
    return comparison.difference(comparison.expected((args, kwargs)))


def _of_its_size(comparison: _Comparison, trials: Trials) -> tuple[_Expected, Any]:
    """Return what the larger model gives for inputs of the example's size that are good for it, and how they are made.

    Raises what went wrong with the example's own numbers.
    """
    failed: Exception | None = None
    for inputs, fill in trials.of_its_size():
        try:
            return comparison.expected(inputs), fill
        except Exception as error:  # noqa: BLE001  whatever a model says about numbers that it cannot take
            failed = error
    if isinstance(failed, ShrinkError):
        raise failed
    raise ShrinkError(
        f"The model does not run in evaluation mode on inputs of the example's shapes, so equality cannot be proven: "
        f"{type(failed).__name__}: {first_line(failed or Exception())}. Give example_inputs=... that it runs on."
    ) from failed


def _tried(comparison: _Comparison, inputs: Inputs) -> _Expected | None:
    """Return what the larger model gives, or None where it does not take inputs of this size."""
    try:
        return comparison.expected(inputs)
    except Exception:  # noqa: BLE001  whatever a model says about sizes that it cannot take
        return None


@dataclass(frozen=True, slots=True, eq=False)
class _Expected:
    """What the larger model gave.

    Attributes:
        inputs: for which.
        tensors: its outputs, and what entered opaque parts.
        replay: what crossed the borders of opaque parts.
        keeps_batch: whether an output is as long as the batch.
    """

    inputs: Inputs
    tensors: list[Tensor]
    replay: Replay
    keeps_batch: bool


class _Comparison:
    """Two models that are to compute the same, run on copies, as they are or in float64."""

    def __init__(
        self, before: nn.Module, after: nn.Module, opaque: Sequence[str], *, double: bool = False, doing: str = ""
    ) -> None:
        self._models = before, after
        self._doing = doing
        self._opaque = opaque
        self._double = double
        how: dict[str, Any] = {"prepare": nn.Module.double, "mode": _Doubled} if double else {}
        self._before = Rerun(before, **how)
        ours = isinstance(after, DualGraphModule) and not opaque and not double
        self._after = Lent(after) if ours else Rerun(after, **how)
        # Generators are one for all threads: put back what others drew, and they draw it once more.
        self._aligns = threading.active_count() == 1 or _may_draw(after) or bool(opaque)

    def expected(self, inputs: Inputs) -> _Expected:
        """Run the larger model. Raises what it raises, and NotFinite."""
        replay = Replay(self._opaque)
        with self._same_draws(), replay.recording(self._before.module):
            output = self._before(*inputs)
        found = tensors_of(output)
        if not all(bool(torch.isfinite(t).all()) for t in (*found, *replay.given)):
            raise NotFinite(
                "The model's outputs are not finite (NaN or infinity), so equality cannot be proven. "
                "Check its weights and normalisation statistics, or pass verify=False."
            )
        return _Expected(inputs, found + replay.given, replay, has_batch(inputs, output))

    @contextmanager
    def _same_draws(self) -> Iterator[None]:
        """Put the random generators back, so that the other model draws the same numbers, and the user as before."""
        generators = Generators()
        try:
            yield
        finally:
            if self._aligns:
                generators.restore()

    def difference(self, expected: _Expected) -> float:
        """Return how far the smaller model's outputs are from these. Raises Refused, DifferentOutput where it fails."""
        try:
            with self._same_draws(), expected.replay.playing(self._after.module):
                got = tensors_of(self._after(*expected.inputs)) + expected.replay.received
        except Exception as error:
            if is_refusal(error):
                raise RefusedByGuard from error
            raise DifferentOutput(
                f"{self._doing} would make the model fail at input shape {shape_of(expected.inputs)}, where it runs "
                f"now: {type(error).__name__}: {first_line(error)}. The model is left as it was."
            ) from error
        return _largest_difference(expected.tensors, got, self._doing)

    def compared(self, expected: _Expected) -> VerifiedRun:
        """Compare, in float64 too where that leaves a doubt. Raises DifferentOutput."""
        dtype = next((p.dtype for p in self._models[0].parameters()), torch.float32).to_real()
        sure = TOLERANCE.get(dtype, 0.0)
        difference = self.difference(expected)
        used = dtype
        if not difference <= sure:
            twice = _Comparison(*self._models, self._opaque, double=True, doing=self._doing)
            used, difference = torch.float64, twice.difference(twice.expected(doubled(expected.inputs)))
        shape = shape_of(expected.inputs)
        limit = TOLERANCE.get(dtype, 2 * torch.finfo(dtype).eps)  # a folded bias is rounded to the weights' precision
        if not difference <= limit:
            raise DifferentOutput(
                f"{self._doing} would change the output at input shape {shape}: the largest relative difference is "
                f"{difference:.2e}, more than {limit:.0e}. The model is left as it was."
            )
        return VerifiedRun(shape, str(used).removeprefix("torch."), difference)


def _may_draw(module: nn.Module) -> bool:
    """Return whether a model may draw random numbers in evaluation; of code that is no graph it is not known."""
    if not isinstance(module, DualGraphModule):
        return True
    calls = (node for node in module.graph.nodes if node.op in ("call_function", "call_method"))
    return any(is_drawn_by_torch(node.target) and node.kwargs.get("training") is not False for node in calls)


def _largest_difference(expected: list[Tensor], got: list[Tensor], doing: str) -> float:
    if [t.shape for t in expected] != [t.shape for t in got]:
        raise DifferentOutput(
            f"{doing} would change the form of the output: {[tuple(t.shape) for t in expected]} became "
            f"{[tuple(t.shape) for t in got]}. The model is left as it was."
        )
    worst = 0.0
    for a, b in zip(expected, got, strict=True):
        gap, scale = gap_and_scale(a, b)
        worst = max(worst, gap / max(scale, 1e-30))
    return worst
