"""Whether two .onnx files answer the same in onnxruntime: the one that was given, and the smaller one made of it.

onnxruntime's sigmoid and softmax are exact to the rounding of 1, also where the result is far below 1: it gives 0.0018
to five digits, not seven. Such faint outputs say little about a file, so it is then held to more (`rounds_alone`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from campfire_fx.base.doubled import Doubled, doubled
from campfire_fx.base.errors import ExportError
from campfire_fx.capture.from_onnx.read import read_onnx
from campfire_fx.export.agreement import Called, ModelRun, difference, faintness, reference_runs, run_once
from campfire_fx.export.onnx_file import OnnxModel

_ROUNDING = 4 * torch.finfo(torch.float32).eps  # of what a runtime computes with numbers of about 1


def rounds_alone(
    candidate: Callable[..., Any], file: Path, model: nn.Module | Path, runs: Sequence[ModelRun], tolerance: float
) -> bool:
    """Say whether a file differs from a model by rounding alone: whether both compute the same in float64.

    Args:
        candidate: the file in onnxruntime, which may be off by the rounding of numbers of about 1, and no more.
        file: read as PyTorch, which has to be within the tolerance of the model in float64.
        model: in its own precision held to the runs like the candidate; or a file of it.
        runs: inputs, and what is expected.
        tolerance: the largest relative difference.
    """
    try:
        floor, model = _ROUNDING / tolerance, read_onnx(model) if isinstance(model, Path) else model
        if not all(difference(one, run, floor) <= tolerance for run in runs for one in (candidate, model)):
            return False
        exact = [copy.deepcopy(one).double() for one in (model, read_onnx(file))]
        for run in runs:
            args, kwargs = doubled((run.args, run.kwargs))
            with Doubled():
                apart = difference(exact[1], run_once(exact[0], args, kwargs))
            if not apart <= tolerance:
                return False
    except Exception:  # noqa: BLE001 - what cannot be computed in float64 is not proven
        return False
    return True


def compare_files(before: Path, after: Path, inputs: tuple[Any, ...]) -> float:
    """Run two files on an example and, where the first can, at another batch and image size.

    Returns:
        the largest difference of their outputs, relative to the largest output.

    Raises:
        ExportError: it is larger than what `export` allows, or the second file does not run where the first does.
    """
    runs = reference_runs(Called(OnnxModel(before)), inputs, {})
    candidate = OnnxModel(after)
    try:
        worst = max(difference(candidate, run) for run in runs)
    except Exception as error:
        raise ExportError(f"{after} does not run on inputs that {before} takes: {error}. Give --example.") from error
    if not worst <= runs.tolerance and not rounds_alone(candidate, after, before, [*runs], runs.tolerance):
        raise ExportError(
            f"{after} gives other outputs than {before} in onnxruntime: relative difference {worst:.1e}, allowed "
            f"{runs.tolerance:.0e}. {faintness(runs.example) or 'Please report the file.'}"
        )
    return worst
