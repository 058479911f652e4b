"""torch.export with as many sizes left free as the model allows."""

from __future__ import annotations

import inspect
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
    reason = "the model does not run at another batch size"
    for freedom, covered in (
        (Freedom.SPACE, tuple(runs)),
        (Freedom.BATCH, tuple(runs)[:2]),
        (Freedom.NONE, (runs.example,)),
    ):
        if freedom is not Freedom.NONE and runs.batch is None:
            continue
        try:
            program = _export(module, runs.example if runs.batch is None else runs.batch, freedom)
            called = program.module()
            worst = max(difference(called, run) for run in covered)
        except Exception as error:  # noqa: BLE001 - torch.export raises errors of many kinds
            reason = first_line(error)
            continue
        if worst <= runs.tolerance:
            _warn(free_axes(program), freedom, reason)
            return Exported(program, covered)
        reason = f"what it makes differs from the model by {worst:.1e}"
    raise ExportError(
        f"torch.export cannot take this model: {reason}. Export a .safetensors or .pt file instead, or only the part "
        "of the model without data-dependent control flow."
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = pytree.tree_map(free, dict(names))
        return torch.export.export(module, run.args, run.kwargs, dynamic_shapes=shapes, strict=False)


def _warn(axes: tuple[str, ...], freedom: Freedom, reason: str) -> None:
    """Say which sizes the file fixes that a user would expect to be free."""
    if not any(axis.endswith("[0]") for axis in axes):
        _log.warning("Exported for the example's batch size alone: %s.", reason)
    elif freedom is Freedom.BATCH:
        _log.warning("Exported for the example's image size alone, at any batch size: %s.", reason)
