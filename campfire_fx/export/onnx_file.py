"""Writing and running .onnx files."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from campfire_fx.base.compat import pytree
from campfire_fx.base.disk.seal import blank, fault
from campfire_fx.base.disk.whole import write_file
from campfire_fx.base.errors import ExportError
from campfire_fx.base.hints import install_command
from campfire_fx.base.naming import any_name
from campfire_fx.export.agreement import first_line
from campfire_fx.export.calls import fed, restored, structure_of
from campfire_fx.export.quiet import kept_quiet
from campfire_fx.export.record import ForOnnx

_LARGEST = 2**31 - 1
_OUTPUTS = "campfire_fx.outputs"
_AXES = {3: ("length",), 4: ("height", "width"), 5: ("depth", "height", "width")}


class OnnxModel:
    """An .onnx file that is called like the model it was exported from: tensors in, tensors out, on the CPU."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        runtime = required("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0  # 0: as many as it takes by itself
        if (spoilt := fault(path)) is not None:
            raise ExportError(f"cannot load {path}: {spoilt}. Export the file again.")
        try:
            self.session = runtime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
            self.input_names = [value.name for value in self.session.get_inputs()]
            self.output_names = [value.name for value in self.session.get_outputs()]
            text = self.session.get_modelmeta().custom_metadata_map.get(_OUTPUTS, "")
            self._structure = structure_of(text)
        except Exception as error:
            raise ExportError(f"onnxruntime cannot read {path}: {first_line(error)}. Export the file again.") from error

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the file. Positional tensors fill the inputs in order, keyword tensors by name."""
        feeds = fed(self.input_names, args, kwargs)
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in feeds.items()}
        outputs = [torch.from_numpy(array) for array in self.session.run(None, arrays)]
        return restored(outputs, self._structure)


def write_onnx(program: ExportedProgram, path: Path, asked: ForOnnx) -> None:
    """Convert an exported program and write it as one file, weights inside.

    Args:
        program: what to write.
        path: where.
        asked: names for inputs and for outputs, in order, and the version of the operators.

    Raises:
        ExportError: a package is missing, the model is too large for one file, an operation has no ONNX form, or
        the names are not as many as the inputs or outputs, or not all different.
        OSError: the file cannot be written.
    """
    converted, onnx = onnx_program(program, opset=asked.opset), required("onnx")
    graph = converted.model.graph
    _rename(graph.inputs, asked.inputs, "input")
    _rename(graph.outputs, asked.outputs, "output")
    if structure := output_structure(program):
        converted.model.metadata_props[_OUTPUTS] = structure
    note = onnx.StringStringEntryProto(key="seal", value=blank())
    content = converted.model_proto.SerializeToString()
    # Fields of a protobuf message may come in any order and any number of pieces: the note is a piece by itself.
    seal = onnx.ModelProto(metadata_props=[note]).SerializeToString()
    write_file(path, lambda file: (file.write(seal), file.write(content)), sealed=True)


def onnx_program(program: ExportedProgram, suffix: str = "onnx", *, opset: int | None = None) -> Any:
    """Convert an exported program to torch's ONNXProgram.

    Args:
        program: what is converted.
        suffix: of the file that it is for, for the errors.
        opset: the version of ONNX's operators; None: torch's.

    Raises:
        ExportError: as in `write_onnx`.
    """
    required("onnx", suffix)
    required("onnxscript", suffix)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if weights > _LARGEST:
        raise ExportError(
            f"an .{suffix} file holds at most 2 GB, and this model's weights are {weights:,} bytes. Use .pt2."
        )
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), any_name():
            warnings.simplefilter("ignore")
            converted = torch.onnx.export(program, dynamo=True, verbose=False, external_data=False, opset_version=opset)
    except Exception as error:
        raise ExportError(
            f"torch.onnx cannot convert this model: {first_line(error)}. Export to .pt2 or .safetensors instead."
        ) from error
    assert converted is not None
    if opset is not None and converted.model.opset_imports.get("") != opset:
        raise ExportError(f"opset={opset}: this model cannot be written in it. Leave opset out, or give another.")
    _tidy(converted.model)
    return converted


def output_structure(program: ExportedProgram) -> str:
    """Return the structure of a program's outputs as text; "" where it has a type of the user's own."""
    with contextlib.suppress(NotImplementedError):  # the file then returns a tuple
        if program.call_spec.out_spec is not None:
            return pytree.treespec_dumps(program.call_spec.out_spec)
    return ""


def _rename(values: Any, names: Sequence[str], what: str) -> None:
    if not names:
        return
    if len(names) != len(values) or len(set(names)) < len(names):
        raise ExportError(
            f"{what}_names={list(names)}: the model has {len(values)} {what}s. Give as many names, all different."
        )
    for value, name in zip(values, names, strict=True):
        value.name = name


def required(package: str, suffix: str = "onnx") -> Any:
    """Import a package of the extra that files of a suffix need, which has its name."""
    try:
        with kept_quiet():
            return importlib.import_module(package)
    except ImportError as error:
        raise ExportError(
            f"the package {package} is needed for .{suffix} files and is not installed. Run {install_command(suffix)}."
        ) from error


def _tidy(model: Any) -> None:
    """Name the free axes, and drop the notes on where nodes come from: they name files of this machine."""
    names: dict[str, str] = {}
    for value in model.graph.inputs:
        for axis, size in enumerate(value.shape):
            if isinstance(size, int):
                continue
            name = (
                "batch" if axis == 0 else dict(enumerate(_AXES.get(len(value.shape), ()), 2)).get(axis, f"axis{axis}")
            )
            names.setdefault(size.value, name if name not in names.values() else f"{value.name}_{name}")
    for node in model.graph:
        node.metadata_props.clear()
    values = [*model.graph.inputs, *(output for node in model.graph for output in node.outputs)]
    for value in values:
        if value.shape is not None:
            for axis, size in enumerate(value.shape):
                if not isinstance(size, int) and size.value is not None:
                    value.shape[axis] = re.sub(r"\b[su]\d+\b", lambda found: names.get(found[0], found[0]), size.value)
