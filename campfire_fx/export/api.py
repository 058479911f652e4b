"""`export` and `load`: one call for every format, told apart by the suffix of the path."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from campfire_fx.base.errors import ExportError
from campfire_fx.export.record import ExportRecord, ForOnnx

if TYPE_CHECKING:
    from campfire_fx.export.agreement import ModelRun
    from campfire_fx.export.mnn_file import MnnModel
    from campfire_fx.export.onnx_file import OnnxModel
    from campfire_fx.export.prepare import Prepared

# What writes files is slow to load, so it is imported where it is used.
_log = logging.getLogger(__name__)

_OLDEST_OPSET = 18


def export(
    model: nn.Module,
    path: str | os.PathLike[str],
    example_inputs: Any = None,
    *,
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    opset: int | None = None,
    half: bool = False,
) -> ExportRecord:
    """Write the model's inference to a file that runs without campfire_fx, in the format that its suffix names.

    `.onnx`: one file for any ONNX runtime. `.pt2`: one file for `torch.export.load`. `.mnn`: one file for MNN, which
    runs on phones and CPUs, and skips zeros: see docs/runtimes.md. All three leave the batch size free, and the image
    size where the model allows. `.safetensors`, and `.pt` or `.pth` (a plain
    state_dict): the weights, and beside them a `.py` of the same name with the model's code; it needs only
    torch, and its `load()` returns the model. Of a model that could be captured in parts only (a detector), it
    holds these parts, and its `load(model)` puts them into a model that its own code has built.

    Every file is loaded again and run before it is put in place: on the example and, where the model can, at
    another batch size and another image size. Its outputs must be the model's to 1e-5 of the largest
    (float32; 1e-10 in float64, 1e-2 in float16, 8e-2 in bfloat16). Faint outputs of an .onnx file, which onnxruntime
    rounds more coarsely than that, must be the model's in float64, with the file read back as PyTorch.

    Args:
        model: a slim or sparse model, a graph module, or any other. It is left as it is.
        path: where to write. What `export` wrote there before is replaced.
        example_inputs: a tensor, a tuple of positional or a dict of keyword arguments. Default: the example that
            the model carries, else a guess from its first convolution. Of a model that was made for several examples,
            the graph that these inputs run is written; `left_out` of the record names the others.
        input_names: for an .onnx file, what its inputs are called, in order. Default: as the parameters of `forward`.
        output_names: for an .onnx file, what its outputs are called, in order. Default: torch's names.
        opset: for an .onnx file, the version of ONNX's operators, 18 or later. Default: torch's.
        half: write weights, inputs and outputs in float16: half the size, and faster where the hardware computes in
            it. This changes the output by as much as the record's `difference` says.

    Raises:
        ExportError: the suffix, the path or the model does not fit, a package is missing, or what was written
            gives other outputs than the model. Nothing is left behind then, and a file that was there before
            stays.
    """
    from campfire_fx.export.files import staged
    from campfire_fx.export.formats import format_of

    target = _path(path)
    check_export(target)
    form = format_of(target)
    asked = _asked(target, ForOnnx(tuple(input_names), tuple(output_names), opset), half=half)
    beside = form.beside(target)
    with torch.random.fork_rng(devices=[]):  # layers that are built draw weights; the user's random numbers stay
        prepared = _prepared(model, example_inputs, asked, half=half)
        with staged(target, beside) as stage:
            written = form.write(prepared, stage)
            worst = _compared(stage, form.read(stage, written.frame), written.runs, prepared, half=half)
    files = (target, *beside)
    record = ExportRecord(
        target,
        target.suffix.lower()[1:],
        sum(file.stat().st_size for file in files),
        worst,
        files,
        written.free,
        prepared.left_out,
        half,
    )
    _log.info("Wrote %s: %d bytes, outputs within %.1e of the model's.", record.path, record.bytes, record.difference)
    if record.left_out:
        _log.warning("%s holds one graph of several; left out: %s.", record.path, ", ".join(record.left_out))
    return record


def check_export(path: Path) -> None:
    """Raise the ExportError of what would fail in `export` whatever the model: the suffix, a package, the folder."""
    from campfire_fx.export.files import check_target
    from campfire_fx.export.formats import format_of

    form = format_of(path)
    form.require_packages(path.suffix.lower()[1:])
    check_target(path, form.beside(path))


def is_exported(path: Path) -> bool:
    """Say whether a file is whole by itself or has its model's code beside it, as `export` writes both."""
    from campfire_fx.export.files import is_ours
    from campfire_fx.export.formats import FORMATS

    form = FORMATS.get(path.suffix.lower())
    return form is not None and all(file.is_file() and is_ours(file) for file in form.beside(path))


def _path(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise ExportError(f"path: it is of type {type(path).__name__}. Give the name of a file, as 'slim.safetensors'.")
    return Path(path)


def _asked(target: Path, asked: ForOnnx, *, half: bool) -> ForOnnx:
    """Return what is asked of an .onnx file; raise where it is asked of another, or no file can be like that."""
    suffix = target.suffix.lower()
    if suffix != ".onnx" and (asked.inputs or asked.outputs):
        raise ExportError(f"input_names, output_names: a {suffix} file has none. Give them for .onnx alone.")
    if suffix != ".onnx" and asked.opset is not None:
        raise ExportError(f"opset={asked.opset!r}: a {suffix} file has none. Give it for .onnx alone.")
    if asked.opset is not None and (type(asked.opset) is not int or asked.opset < _OLDEST_OPSET):
        raise ExportError(
            f"opset={asked.opset!r}: torch writes ONNX's operators from version {_OLDEST_OPSET} on. Give that or a "
            "later one."
        )
    if half and suffix == ".mnn":
        raise ExportError("half=True: MNN computes in float32. Leave half out, or write an .onnx file.")
    return asked


def _prepared(model: nn.Module, example_inputs: Any, asked: ForOnnx, *, half: bool) -> Prepared:
    from campfire_fx.export.half import halved
    from campfire_fx.export.prepare import prepare

    prepared = replace(prepare(model, example_inputs), onnx=asked)
    return halved(prepared) if half else prepared


def _compared(
    file: Path, reloaded: Callable[..., Any], runs: Iterable[ModelRun], prepared: Prepared, *, half: bool
) -> float:
    """Return the largest difference of what was read back from the model; raise where it is too large."""
    from campfire_fx.export.agreement import difference, faintness, first_line
    from campfire_fx.export.onnx_agreement import rounds_alone

    runs, tolerance, suffix = list(runs), prepared.runs.tolerance, file.suffix.lower()
    try:
        worst = max(difference(reloaded, run) for run in runs)
    except Exception as error:
        raise ExportError(
            f"the {suffix} file fails where the model runs: {first_line(error)}. Use another format."
        ) from error
    if not worst <= tolerance and half:
        raise ExportError(
            f"half=True: in float16 the output differs from the model's by {worst:.1e} of its largest, allowed "
            f"{tolerance:.0e}. Numbers of the model are too large or too fine for float16; leave half out."
        )
    if not worst <= tolerance and not (
        suffix == ".onnx" and rounds_alone(reloaded, file, prepared.module, runs, tolerance)
    ):
        raise ExportError(
            f"the {suffix} file gives other outputs than the model: relative difference {worst:.1e}, allowed "
            f"{tolerance:.0e}. "
            + (faintness(runs[0]) or "Check the model for randomness and forward hooks, or use another format.")
        )
    return worst


def load(path: str | os.PathLike[str], model: nn.Module | None = None) -> nn.Module | OnnxModel | MnnModel:
    """Load an exported file: a module on the CPU; for `.onnx` and `.mnn` an `OnnxModel` or `MnnModel`, called alike.

    `.safetensors`, `.pt`, `.pth`: the code in the `.py` beside the file is run, so load only what you trust. `.pt2`,
    `.onnx` and `.mnn`: nothing in the file is run but the operations of the model; what torch would unpickle or
    evaluate in a .pt2 file is left behind or refused.

    The checksum that `export` put into the file must fit, and for the first three that of the code, too.

    Args:
        path: the file.
        model: only for a file that holds parts of a model (see `export`): the model, as its own code builds it. The
            parts and all weights are put into it.

    Raises:
        ExportError: there is no such file, or it is damaged, or `export` did not write it, or a package is
            missing, or the file holds parts and no model is given.
    """
    from campfire_fx.export.formats import format_of

    target = _path(path)
    if target.suffix == ".ckpt":
        raise ExportError(
            f"cannot load {target}: it is a checkpoint of campfire-fx train, which is no exported file. "
            f"Make one of it with campfire-fx export {target} {target.with_suffix('.safetensors')}, and load that."
        )
    form = format_of(target)
    if not target.is_file():
        raise ExportError(f"cannot load {target}: there is no such file. Check the path.")
    return cast("nn.Module | OnnxModel | MnnModel", form.read(target, model))
