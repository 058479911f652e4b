"""One writer and one reader for each format."""

from __future__ import annotations

import contextlib
import copy
import inspect
import re
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.base.disk.archive import Unreadable
from campfire_fx.base.disk.seal import fault
from campfire_fx.base.disk.whole import write_file
from campfire_fx.base.errors import ExportError
from campfire_fx.base.naming import any_name
from campfire_fx.export.agreement import ModelRun, difference, first_line
from campfire_fx.export.files import is_ours
from campfire_fx.export.mnn_file import MnnModel, write_mnn
from campfire_fx.export.onnx_file import OnnxModel, required, write_onnx
from campfire_fx.export.prepare import Prepared, as_graphs
from campfire_fx.export.program import example_of, example_tensor, exported_program, free_axes
from campfire_fx.export.program_file import read_program
from campfire_fx.export.safetensors import write_safetensors
from campfire_fx.export.source import model_source


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """What a writer leaves.

    Attributes:
        runs: what the file must reproduce.
        free: the input axes whose size is free.
        frame: where the file holds parts only, a copy of the model to load them into.
    """

    runs: Iterable[ModelRun]
    free: tuple[str, ...] = ()
    frame: nn.Module | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    Attributes:
        write: what writes it.
        read: what reads it.
        code: whether a .py of the same name stands beside the file.
        packages: that have to be installed.
    """

    write: Callable[[Prepared, Path], Written]
    read: Callable[[Path, nn.Module | None], Callable[..., Any]]
    code: bool = False
    packages: tuple[str, ...] = ()

    def beside(self, path: Path) -> tuple[Path, ...]:
        """Return the files that stand beside the one at `path`."""
        return (path.with_suffix(".py"),) if self.code else ()

    def require_packages(self, suffix: str) -> None:
        """Raise an ExportError if a package is missing; `suffix` is the format's own."""
        for package in self.packages:
            required(package, suffix)


def format_named(name: str) -> str:
    """Return the suffix, without its dot, of a format by name: "pt2", ".pt2" or ".PT2".

    Raises:
        ExportError: there is none.
    """
    suffix = "." + name.strip().lower().removeprefix(".")
    if suffix not in FORMATS:
        raise ExportError(f"unknown format {name.strip()!r}: there are {', '.join(FORMATS)}. Use one of these.")
    return suffix[1:]


def format_of(path: Path) -> Format:
    """Return the format that the path's suffix names.

    Raises:
        ExportError: there is none.
    """
    if path.suffix.lower() not in FORMATS:
        raise ExportError(
            f"unknown format at {path}: the suffix {path.suffix!r} is not one of {', '.join(FORMATS)}. "
            "Name the file with one of these."
        )
    return FORMATS[path.suffix.lower()]


def _write_onnx(prepared: Prepared, path: Path) -> Written:
    required("onnxruntime")
    required("onnxscript")
    exported = exported_program(prepared.module, prepared.runs)
    write_onnx(exported.program, path, prepared.onnx)
    return Written(exported.runs, free_axes(exported.program, prepared.onnx.inputs))


def _write_mnn(prepared: Prepared, path: Path) -> Written:
    """Write an .mnn file with as many sizes free as MNN computes rightly; the last one tried is what is compared."""
    runs = prepared.runs
    for tried in (runs, replace(runs, space=None), replace(runs, batch=None, space=None)):
        exported = exported_program(prepared.module, tried)
        write_mnn(exported.program, path, runs.example)
        written = Written(exported.runs, free_axes(exported.program))
        with contextlib.suppress(RuntimeError):
            if max(difference(MnnModel(path), run) for run in exported.runs) <= runs.tolerance:
                break
    return written


def _write_program(prepared: Prepared, path: Path) -> Written:
    exported = exported_program(prepared.module, prepared.runs)
    exported.program.example_inputs = None  # else the file would hold them too
    write_file(path, lambda file: torch.export.save(exported.program, file), sealed=True)
    return Written(exported.runs, free_axes(exported.program))


def _write_tensors(prepared: Prepared, path: Path) -> Written:
    graphs = as_graphs(prepared)
    code = model_source(graphs, prepared.name, prepared.runs.example)
    write_file(path.with_suffix(".py"), lambda file: file.write(code.encode()))
    tensors = {name: _compact(tensor) for name, tensor in graphs.module.state_dict().items()}
    if path.suffix.lower() == ".safetensors":
        write_safetensors(tensors, path, code)
    else:
        write_file(path, lambda file: torch.save(tensors, file), sealed=True, code=code)
    return Written(prepared.runs, frame=None if graphs.is_whole else copy.deepcopy(graphs.module))


def _compact(tensor: Tensor) -> Tensor:
    """Return the tensor in memory of its own size: a view would be saved with all that it looks into."""
    tensor = tensor.detach().contiguous()
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()


def _read_onnx(path: Path, _: nn.Module | None) -> OnnxModel:
    return OnnxModel(path)


def _read_mnn(path: Path, _: nn.Module | None) -> MnnModel:
    return MnnModel(path)


def _read_program(path: Path, _: nn.Module | None) -> nn.Module:
    try:
        with any_name():
            program = read_program(path)
            module = program.module()
        vars(module)["example"] = example_of(program)  # what `export` takes where no other is given
        return module
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(f"cannot load {path}: {first_line(error)}. Export it again with this torch.") from error


def _read_tensors(path: Path, frame: nn.Module | None) -> nn.Module:
    code = path.with_suffix(".py")
    if not code.is_file() or not is_ours(code):
        raise ExportError(
            f"cannot load {path}: there is no model code written by campfire_fx.export at {code}. "
            "Keep the two files that export writes side by side; a state_dict alone is loaded into a model of yours, "
            "with its load_state_dict()."
        )
    try:
        text = code.read_text(encoding="utf-8")
        if (spoilt := fault(path, text)) is not None:
            raise Unreadable(spoilt)
        loader = _loader(code, text)
        if "model" not in inspect.signature(loader).parameters:
            return _with_example(loader(path), text)
        if frame is not None:
            return loader(frame, path)
    except Exception as error:
        raise ExportError(
            f"cannot load {path}: {first_line(error)}. Check that it and {code.name} come from the same export."
        ) from error
    raise ExportError(
        f"cannot load {path} by itself: it holds parts of a model; the rest is in its own code. "
        "Build the model with that code, and pass it as load(path, model=...)."
    )


def _with_example(module: nn.Module, text: str) -> nn.Module:
    """Give a loaded model the example inputs that its file speaks of, where it takes just so many tensors."""
    stated = re.search(r"^Example input: (.*)\.$", text, re.MULTILINE)
    tensors = re.findall(r"(\w+) \(([\d, ]*)\)", stated[1]) if stated else []
    needed = [p for p in inspect.signature(module.forward).parameters.values() if p.default is p.empty]
    if len(tensors) == len(needed) > 0 and not hasattr(module, "example"):
        made = (example_tensor([*map(int, re.findall(r"\d+", shape))], getattr(torch, kind)) for kind, shape in tensors)
        vars(module)["example"] = tuple(made), {}  # what `export` takes where no other is given
    return module


def _loader(code: Path, text: str) -> Callable[..., nn.Module]:
    """Run the text of a generated file and return its `load`.

    It is run from the text, not imported: an import would cache bytecode by time and size, and hold on to an old file.
    """
    module = types.ModuleType(code.stem)
    module.__file__ = str(code)
    exec(compile(text, str(code), "exec"), module.__dict__)
    return module.load


_TENSORS = Format(_write_tensors, _read_tensors, code=True)
FORMATS = {
    ".onnx": Format(_write_onnx, _read_onnx, packages=("onnx", "onnxscript", "onnxruntime")),
    ".pt2": Format(_write_program, _read_program),
    ".safetensors": _TENSORS,
    ".pt": _TENSORS,
    ".pth": _TENSORS,
    ".mnn": Format(_write_mnn, _read_mnn, packages=("MNN", "flatbuffers", "onnx", "onnxscript")),
}
"""The formats by suffix."""
