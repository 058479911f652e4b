"""torch.export with as many sizes left free as the model allows."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from campfire_fx.errors import ExportError
from campfire_fx.export.agreement import Run, Runs, batch_size, difference, first_line

_log = logging.getLogger(__name__)


class Freedom(Enum):
    """Which input sizes a program leaves free."""

    SPACE = "batch and image size"
    BATCH = "batch size"
    NONE = "none"


_FIXED = {Freedom.NONE: "sizes", Freedom.BATCH: "image size"}
"""What a program fixes that the model does not, by the freedom that it has."""


@dataclass(frozen=True, slots=True, eq=False)
class Exported:
    """A program, and the runs that it must reproduce: all that its free sizes allow."""

    program: ExportedProgram
    runs: tuple[Run, ...]


def exported_program(module: nn.Module, runs: Runs) -> Exported:
    """Export the model with a free batch size and image size; else with a free batch size; else as the example is.

    The first that answers like the model on every run that it should cover is taken.

    Raises:
        ExportError: torch.export refuses the model, or what it makes answers otherwise.
    """
    attempts: list[tuple[Freedom, Run, tuple[Run, ...]]] = [(Freedom.NONE, runs.example, (runs.example,))]
    if runs.batch is not None:  # of two samples at least: torch.export takes an axis of size 1 for a fixed one
        attempts.insert(0, (Freedom.BATCH, runs.batch, (runs.example, runs.batch)))
        if runs.space is not None:
            attempts.insert(0, (Freedom.SPACE, runs.batch, tuple(runs)))
    reason = "the model does not run at another batch size"
    for freedom, run, covered in attempts:
        try:
            program = _export(module, run, freedom)
            called = program.module()
            worst = max(difference(called, each) for each in covered)
        except Exception as error:  # noqa: BLE001 - torch.export raises errors of many kinds
            reason = first_line(error)
            continue
        if worst <= runs.tolerance:
            if freedom is not attempts[0][0] or freedom is Freedom.NONE:
                _log.warning("Exported for the example's %s alone: %s.", _FIXED[freedom], reason)
            return Exported(program, covered)
        reason = f"what it makes differs from the model by {worst:.1e}"
    raise ExportError(
        f"torch.export cannot take this model: {reason}. Export a .safetensors or .pt file instead, or only the part "
        "of the model without data-dependent control flow; torch.save(model, path) keeps any model, with its classes."
    )


def free_axes(program: ExportedProgram) -> tuple[str, ...]:
    """Return the input axes whose size is free, as `x[0]`."""
    inputs = set(program.graph_signature.user_inputs)
    return tuple(
        f"{node.name}[{axis}]"
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in inputs and isinstance(node.meta.get("val"), Tensor)
        for axis, size in enumerate(node.meta["val"].shape)
        if isinstance(size, torch.SymInt)
    )


def _export(module: nn.Module, run: Run, freedom: Freedom) -> ExportedProgram:
    """Export at the run's inputs, with the axes free that the freedom says and the model allows."""
    samples = batch_size((run.args, run.kwargs))

    def free(leaf: Any) -> dict[int, Any] | None:
        if not isinstance(leaf, Tensor) or freedom is Freedom.NONE:
            return None
        space = range(2, leaf.dim()) if freedom is Freedom.SPACE else ()
        batch = (0,) if leaf.dim() and leaf.shape[0] == samples else ()
        return dict.fromkeys((*batch, *space), Dim.AUTO)

    names = inspect.signature(module.forward).bind(*run.args, **run.kwargs).arguments
    quiet = io.StringIO()  # torch.export prints the whole graph where it fails
    with warnings.catch_warnings(), contextlib.redirect_stderr(quiet), contextlib.redirect_stdout(quiet):
        warnings.simplefilter("ignore")
        shapes = pytree.tree_map(free, dict(names))
        return torch.export.export(module, run.args, run.kwargs, dynamic_shapes=shapes, strict=False)
