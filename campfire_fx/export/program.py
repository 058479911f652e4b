"""torch.export with as many sizes left free as the model allows."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from campfire_fx.base.compat import pytree
from campfire_fx.base.errors import ExportError
from campfire_fx.base.naming import any_name
from campfire_fx.export.agreement import ModelRun, Runs, batch_size, difference, first_line
from campfire_fx.export.written_out import WrittenOut

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Exported:
    """A program, and the runs that it must reproduce: all that its free sizes allow."""

    program: ExportedProgram
    runs: tuple[ModelRun, ...]


def exported_program(module: nn.Module, runs: Runs) -> Exported:
    """Export the model with all sizes free that it takes free; else with a free batch size; else as the example is.

    The first that answers like the model on every run that it should cover is taken.

    Raises:
        ExportError: torch.export refuses the model, or what it makes answers otherwise.
    """
    attempts: list[tuple[frozenset[int], ModelRun, tuple[ModelRun, ...]]] = [
        (frozenset(), runs.example, (runs.example,))
    ]
    batch = frozenset() if runs.batch is None else frozenset({0})
    larger = runs.batch or runs.example  # of two samples at least: torch.export takes an axis of size 1 for a fixed one
    if batch:
        attempts.insert(0, (batch, larger, (runs.example, larger)))
    if runs.space is not None:
        attempts.insert(0, (batch | runs.axes, larger, tuple(runs)))
    reason = "the model does not run at another batch size"
    for axes, run, covered in attempts:
        try:
            program = _export(module, run, axes)
            with any_name():
                called = program.module()
            worst = max(difference(called, each) for each in covered)
        except Exception as error:  # noqa: BLE001 - torch.export raises errors of many kinds
            reason = _why(module, error)
            continue
        if worst <= runs.tolerance:
            if axes is not attempts[0][0] or not axes:
                _log.warning("Exported for the example's %s alone: %s.", "image size" if 0 in axes else "sizes", reason)
            return Exported(program, covered)
        reason = f"what it makes differs from the model by {worst:.1e}"
    raise ExportError(
        f"torch.export cannot take this model: {reason}. Export a .safetensors or .pt file instead, or only the part "
        "of the model without data-dependent control flow; torch.save(model, path) keeps any model, with its classes."
    )


def _why(module: nn.Module, error: Exception) -> str:
    """Say why a size is not free: the usual reason where it is there, else what torch says."""
    recurrent = next((name for name, part in module.named_modules() if isinstance(part, nn.RNNBase)), None)
    if recurrent is not None:
        return (
            f"torch.export fixes the length of the sequence that {recurrent} reads; a .safetensors file leaves it free"
        )
    return first_line(error)


def free_axes(program: ExportedProgram, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the input axes whose size is free, as `x[0]`; `names`: what the inputs are called in the file."""
    inputs = set(program.graph_signature.user_inputs)
    nodes = [
        node
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in inputs and isinstance(node.meta.get("val"), Tensor)
    ]
    return tuple(
        f"{name}[{axis}]"
        for node, name in zip(nodes, names or [node.name for node in nodes], strict=True)
        for axis, size in enumerate(node.meta["val"].shape)
        if isinstance(size, torch.SymInt)
    )


def _export(module: nn.Module, run: ModelRun, axes: frozenset[int]) -> ExportedProgram:
    """Export at the run's inputs, with those of the axes free that the model allows."""
    samples = batch_size((run.args, run.kwargs))

    def free(leaf: Any) -> dict[int, Any] | None:
        if not isinstance(leaf, Tensor) or not axes:
            return None
        own = {axis for axis in axes if axis < leaf.dim() and (axis or leaf.shape[0] == samples)}
        return dict.fromkeys(sorted(own), Dim.AUTO)

    names = inspect.signature(module.forward).bind(*run.args, **run.kwargs).arguments
    quiet = io.StringIO()  # torch.export prints the whole graph where it fails
    with warnings.catch_warnings(), contextlib.redirect_stderr(quiet), contextlib.redirect_stdout(quiet), WrittenOut():
        warnings.simplefilter("ignore")
        shapes = pytree.tree_map(free, dict(names))
        return torch.export.export(module, run.args, run.kwargs, dynamic_shapes=shapes, strict=False)


def example_tensor(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return an input of a shape: random numbers where they are floating, always the same, else zeros."""
    if not dtype.is_floating_point:
        return torch.zeros(*shape, dtype=dtype)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def example_of(program: ExportedProgram) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return inputs of the shapes that a program was exported with, (positional, keyword); None where it has forgotten.

    Random numbers where they are floating, else zeros.
    """
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}

    def made(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        shape = [size if isinstance(size, int) else size.node.hint for size in value.shape]
        return example_tensor(shape, value.dtype)

    given = program.graph_signature.user_inputs
    try:
        leaves = [made(nodes[name].meta["val"] if isinstance(name, str) and name in nodes else name) for name in given]
        args, kwargs = pytree.tree_unflatten(leaves, program.call_spec.in_spec)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return args, kwargs
