"""A prepared model in half precision: what is written then, and what it is compared with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from campfire_fx.base.compat import pytree
from campfire_fx.base.errors import ExportError
from campfire_fx.export.agreement import TOLERANCES, ModelRun, first_line, run_once
from campfire_fx.export.prepare import Prepared


def halved(prepared: Prepared) -> Prepared:
    """Return the model in float16, to be compared with what it answered before, in its own precision.

    So what the file may differ by is all that half precision changes, and not only what the file adds to it.

    Raises:
        ExportError: the model does not run in float16: its code asks for another type, or an operation has none.
    """
    runs = prepared.runs
    module = prepared.module.half()
    example, batch, space = (run and _in_half(run) for run in (runs.example, runs.batch, runs.space))
    assert example is not None
    try:
        run_once(module, example.args, example.kwargs)
    except Exception as error:
        raise ExportError(
            f"half=True: the model does not run in float16: {first_line(error)}. Leave half out, or make its code take "
            "the type of its input."
        ) from error
    halves = replace(runs, example=example, batch=batch, space=space, tolerance=TOLERANCES[torch.float16])
    return replace(prepared, module=module, runs=halves)


def _in_half(run: ModelRun) -> ModelRun:
    return ModelRun(*pytree.tree_map(_half, (run.args, run.kwargs, run.outputs)))


def _half(leaf: Any) -> Any:
    return leaf.half() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf
