"""Writing and running .onnx files."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from campfire_fx.base.compat import pytree
from campfire_fx.base.disk.seal import blank, fault
from campfire_fx.base.disk.whole import write_file
from campfire_fx.base.errors import ExportError
from campfire_fx.base.naming import any_name
from campfire_fx.export.agreement import first_line
from campfire_fx.export.program_file import is_structure

_LARGEST = 2**31 - 1
_OUTPUTS = "campfire_fx.outputs"
_AXES = {3: ("length",), 4: ("height", "width"), 5: ("depth", "height", "width")}


class OnnxModel:
    """An .onnx file that is called like the model it was exported from: tensors in, tensors out, on the CPU."""

    def __init__(self, path: Path) -> None:
        runtime = required("onnxruntime")
        if (spoilt := fault(path)) is not None:
            raise ExportError(f"cannot load {path}: {spoilt}. Export the file again.")
        try:
            self.session = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
            self.input_names = [value.name for value in self.session.get_inputs()]
            self.output_names = [value.name for value in self.session.get_outputs()]
            text = self.session.get_modelmeta().custom_metadata_map.get(_OUTPUTS, "")
            # The structure may name classes that would be imported; outputs come as a tuple then.
            self._structure = pytree.treespec_loads(text) if text and is_structure(text) else None
        except Exception as error:
            raise ExportError(f"onnxruntime cannot read {path}: {first_line(error)}. Export the file again.") from error

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the file. Positional tensors fill the inputs in order, keyword tensors by name."""
        given = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, Tensor)]
        feeds = dict(zip(self.input_names, given, strict=False))
        rest = pytree.tree_leaves_with_path(kwargs)
        feeds.update({_joined(path): leaf for path, leaf in rest if isinstance(leaf, Tensor)})
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in feeds.items()}
        outputs = [torch.from_numpy(array) for array in self.session.run(None, arrays)]
        if self._structure is not None and self._structure.num_leaves == len(outputs):
            return pytree.tree_unflatten(outputs, self._structure)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def write_onnx(program: ExportedProgram, path: Path) -> None:
    """Convert an exported program and write it as one file, weights inside.

    Raises:
        ExportError: a package is missing, the model is too large for one file, or an operation has no ONNX
        form.
        OSError: the file cannot be written.
    """
    onnx = required("onnx")
    required("onnxscript")
    weights = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if weights > _LARGEST:
        raise ExportError(
            f"an .onnx file holds at most 2 GB, and this model's weights are {weights:,} bytes. Use .pt2."
        )
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), any_name():
            warnings.simplefilter("ignore")
            converted = torch.onnx.export(program, dynamo=True, verbose=False, external_data=False)
    except Exception as error:
        raise ExportError(
            f"torch.onnx cannot convert this model: {first_line(error)}. Export to .pt2 or .safetensors instead."
        ) from error
    assert converted is not None
    _tidy(converted.model)
    spec = program.call_spec.out_spec
    if spec is not None:
        with contextlib.suppress(NotImplementedError):  # a type of the user's own: the file then returns a tuple
            converted.model.metadata_props[_OUTPUTS] = pytree.treespec_dumps(spec)
    note = onnx.StringStringEntryProto(key="seal", value=blank())
    content = converted.model_proto.SerializeToString()
    # Fields of a protobuf message may come in any order and any number of pieces: the note is a piece by itself.
    seal = onnx.ModelProto(metadata_props=[note]).SerializeToString()
    write_file(path, lambda file: (file.write(seal), file.write(content)), sealed=True)


def required(package: str) -> Any:
    """Import a package of the `onnx` extra."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ExportError(
            f"the package {package} is needed for .onnx files and is not installed. "
            "Run pip install 'campfire-fx[onnx]'."
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


def _joined(path: Any) -> str:
    return "_".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)
