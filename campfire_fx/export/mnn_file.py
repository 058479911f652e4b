"""Writing and running .mnn files, for MNN, an inference engine for phones and CPUs that skips zeros.

MNN's own converter makes them of ONNX. It runs in a process of its own: what it meets in a model may end a process, and
its command `mnnconvert` would install a package that sends reports. Facts that MNN has no place for (the names, types
and structure of inputs and outputs) stand in the file's text `bizCode`, with the seal at its end.
"""

from __future__ import annotations

import json
import logging
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from campfire_fx.base.disk.seal import blank, fault
from campfire_fx.base.disk.whole import write_file
from campfire_fx.base.errors import ExportError
from campfire_fx.base.timing import in_turns
from campfire_fx.export.agreement import ModelRun
from campfire_fx.export.calls import fed, restored, structure_of
from campfire_fx.export.mnn_sparsity import BLOCKS, parameters, settle
from campfire_fx.export.onnx_file import onnx_program, output_structure, required
from campfire_fx.export.quiet import kept_quiet

_log = logging.getLogger(__name__)

_CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv)"
_UNKNOWN = re.compile(r"Not Support: (.+)")
_FLAT = {torch.float32: "float", torch.int32: "int", torch.int64: "int", torch.bool: "int", torch.uint8: "uint8"}
"""The types that MNN knows, by the ones that they stand for: it has 32 bits for numbers of 64 and for bool."""


class MnnModel:
    """An .mnn file that is called like the model it was exported from: tensors in, tensors out, on the CPU.

    Args:
        path: the file; also one that `export` did not write.
        fast: compute as MNN does by itself: dense 3x3 convolutions by Winograd's algorithm, which rounds more (about
            1e-5 of the largest output in ResNet-18). Else they are computed as they stand, slower, as `export` compares
            files.
        threads: of the CPU; None: as many as torch uses.

    Raises:
        ExportError: MNN is not installed, or the file is no .mnn file, or spoilt.
    """

    def __init__(self, path: Path, *, fast: bool = False, threads: int | None = None) -> None:
        mnn = required("MNN", "mnn")
        if not path.is_file():
            raise ExportError(f"cannot load {path}: there is no such file. Check the path.")
        if (spoilt := fault(path)) is not None:
            raise ExportError(f"cannot load {path}: {spoilt}. Export the file again.")
        self._express = mnn.expr
        settings = {"backend": 0, "numThread": threads or torch.get_num_threads()}
        try:
            with kept_quiet():
                facts = mnn.nn.load_module_from_file(os.fspath(path), [], []).get_info()
                told = _facts(facts["bizCode"])
                self.input_names: list[str] = told.get("inputs", facts["inputNames"])
                self.output_names: list[str] = told.get("outputs", facts["outputNames"])
                runtime = mnn.nn.create_runtime_manager((settings,))
                if not fast:
                    runtime.set_hint(_WINOGRAD, 0)
                self._module = mnn.nn.load_module_from_file(
                    os.fspath(path), self.input_names, self.output_names, runtime_manager=runtime, rearrange=not fast
                )
            self._runtime = runtime  # MNN's module does not hold it
        except Exception as error:
            raise ExportError(f"cannot load {path}: MNN does not read it as a model. Export the file again.") from error
        self._types = [getattr(torch, name) for name in told.get("types", ())]
        self._structure = structure_of(told.get("structure", ""))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the file. Positional tensors fill the inputs in order, keyword tensors by name."""
        feeds = fed(self.input_names, args, kwargs)
        with kept_quiet():
            found = self._module.onForward([self._variable(feeds[name]) for name in self.input_names])
        if len(found) < len(self.output_names):
            shapes = ", ".join("x".join(map(str, tensor.shape)) for tensor in feeds.values())
            raise RuntimeError(f"MNN cannot compute this file for inputs of {shapes}")
        flat = [torch.from_numpy(self._express.convert(one, self._express.NCHW).read().copy()) for one in found]
        if self._types:
            flat = [one.to(dtype) for one, dtype in zip(flat, self._types, strict=True)]
        return restored(flat, self._structure)

    def _variable(self, tensor: Tensor) -> Any:
        kind = _FLAT.get(tensor.dtype, "float")
        array = tensor.detach().cpu().to(_NARROW.get(kind, torch.float32)).contiguous().numpy()
        return self._express.const(array, list(tensor.shape), self._express.NCHW, getattr(self._express, kind))


_WINOGRAD = 3  # MNN's HintMode WINOGRAD_MEMORY_LEVEL
_NARROW = {"int": torch.int32, "uint8": torch.uint8}


def write_mnn(program: ExportedProgram, path: Path, example: ModelRun) -> None:
    """Convert an exported program by way of ONNX, and write it as one file, weights inside.

    Of the forms in which MNN skips no zeros, blocks of four filters, or single weights, the file has the one that is
    measured to be fastest on the example.

    Args:
        program: what is converted.
        path: where to write; its folder is used for the other files, too.
        example: what is timed.

    Raises:
        ExportError: a package is missing, the model does not compute in float32, or MNN lacks an operation.
        OSError: a file cannot be written.
    """
    required("flatbuffers", "mnn")
    _refuse_types(program)
    converted = onnx_program(program, "mnn")
    facts = {
        "inputs": [value.name for value in converted.model.graph.inputs],
        "outputs": [value.name for value in converted.model.graph.outputs],
        "types": [str(dtype).removeprefix("torch.") for dtype in _output_types(program)],
        "structure": output_structure(program),
    }
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source = Path(folder, "model.onnx")
        source.write_bytes(converted.model_proto.SerializeToString())
        _fastest(list(_forms(source, f"{json.dumps(facts)}\n{blank()}")), example).replace(path)


def _forms(source: Path, note: str) -> Iterator[Path]:
    """Convert an ONNX file without sparse layers, and with those that pay, for each size of blocks that has any."""
    dense = convert(source, source.with_name("dense.mnn"), note)
    yield _sealed(dense, dense.read_bytes())
    for block in BLOCKS:
        asked = source.with_name("parameters.bin")
        asked.write_bytes(parameters(block))
        options = ("--detectSparseSpeedUp", "--compressionParamsFile", asked.name)
        file = convert(source, source.with_name(f"blocks_of_{block}.mnn"), note, options)
        content = bytearray(file.read_bytes())
        found = settle(content)
        _log.info("Blocks of %d filters: %d layers skip zeros, %d would lose.", block, found.layers, found.left)
        if found.layers:
            yield _sealed(file, content)


def _sealed(file: Path, content: bytes | bytearray) -> Path:
    write_file(file, lambda target: target.write(content), sealed=True)
    return file


def _fastest(files: Sequence[Path], example: ModelRun) -> Path:
    """Return the file that takes the least time on the example."""
    if len(files) == 1:
        return files[0]
    runs = [partial(MnnModel(file, fast=True), *example.args, **example.kwargs) for file in files]
    times = in_turns(runs, torch.device("cpu"), least=5, most=15, enough=2.0)
    medians = [statistics.median(taken) for taken in times]
    return files[medians.index(min(medians))]


def convert(source: Path, target: Path, note: str, options: Sequence[str] = ()) -> Path:
    """Run MNN's converter on an ONNX file; return the target.

    Args:
        source: an ONNX file.
        target: what is written, in the same folder.
        note: the text `bizCode` of the file.
        options: more for the converter; its files are looked for in that folder.

    Raises:
        ExportError: MNN lacks an operation, or the converter fails.
    """
    asked = ("-f", "ONNX", "--modelFile", source.name, "--MNNModel", target.name, "--bizCode", note, *options)
    done = subprocess.run(
        [sys.executable, "-c", _CONVERT, *asked], cwd=source.parent, capture_output=True, text=True, check=False
    )
    if target.is_file() and "Converted Success" in done.stdout:
        return target
    if unknown := _UNKNOWN.search(done.stdout):
        names = sorted(set(unknown[1].replace(",", " ").replace("ONNX::", "").split()))
        raise ExportError(f"MNN has no operation for {', '.join(names)} of ONNX. Export to .onnx or .pt2 instead.")
    said = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
    why = f"signal {-done.returncode}" if done.returncode < 0 else said[-1].strip().rstrip(".")
    raise ExportError(f"MNN's converter fails on this model: {why}. Export to .onnx or .pt2 instead.")


def _refuse_types(program: ExportedProgram) -> None:
    """Raise an ExportError if a program computes in other floating-point numbers than float32."""
    for node in program.graph.nodes:
        value = node.meta.get("val")
        number = isinstance(value, Tensor) and (value.is_complex() or value.is_floating_point())
        if number and value.dtype != torch.float32:
            kind = str(value.dtype).removeprefix("torch.")
            raise ExportError(
                f"an .mnn file computes in float32, and this model in {kind}. Export model.float(), or to .pt2."
            )


def _output_types(program: ExportedProgram) -> list[torch.dtype]:
    found = [node for node in program.graph.output_node().args[0] if isinstance(node, torch.fx.Node)]
    return [node.meta["val"].dtype for node in found]


def _facts(note: str) -> dict[str, Any]:
    """Return what `write_mnn` has put into a file's text, or nothing."""
    try:
        found = json.loads(note.partition("\n")[0])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
