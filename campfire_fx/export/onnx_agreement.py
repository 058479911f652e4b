"""Whether two .onnx files answer the same in onnxruntime: the one that was given, and the smaller one made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from campfire_fx.base.errors import ExportError
from campfire_fx.export.agreement import Called, difference, reference_runs
from campfire_fx.export.onnx_file import OnnxModel


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
    if not worst <= runs.tolerance:
        raise ExportError(
            f"{after} gives other outputs than {before} in onnxruntime: relative difference {worst:.1e}, allowed "
            f"{runs.tolerance:.0e}. Please report the file."
        )
    return worst
