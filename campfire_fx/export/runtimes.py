"""The runtimes in which files and models can be timed: one record each, which opens a file as a function of tensors."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.export.api import load
from campfire_fx.export.calls import fed
from campfire_fx.export.mnn_file import MnnModel
from campfire_fx.export.onnx_file import OnnxModel, required

Source = nn.Module | Path
Open = Callable[[Source, tuple[Any, ...], int], Callable[..., object]]
"""From a file or a model, the inputs of a call, and a number of threads to a function of these inputs."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime.

    Attributes:
        name: what it is called in lists.
        distribution: the package that has its version.
        module: what is imported of it.
        suffixes: of the files that it opens; ".pt2" and the like stand for models that torch runs.
        open: opens one.
        extra: what installs it.
    """

    name: str
    distribution: str
    module: str
    suffixes: tuple[str, ...]
    open: Open
    extra: str = ""

    @property
    def installed(self) -> bool:
        """Whether it is there; nothing is imported."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def told(self) -> str:
        """Its name and version."""
        return f"{self.name} {importlib.metadata.version(self.distribution).partition('+')[0]}"


def _model(source: Source) -> nn.Module:
    """Return a model in evaluation mode; of torch's own programs that is what they are made for."""
    if isinstance(source, nn.Module):
        return source
    loaded = load(source)
    assert isinstance(loaded, nn.Module)
    return loaded


def _eager(source: Source, _args: tuple[Any, ...], _threads: int) -> Callable[..., object]:
    return _model(source)


def _compiled(source: Source, _args: tuple[Any, ...], _threads: int) -> Callable[..., object]:
    compiled: Callable[..., object] = torch.compile(_model(source))
    return compiled


def _onnx(source: Source, _args: tuple[Any, ...], threads: int) -> Callable[..., object]:
    assert isinstance(source, Path)
    return OnnxModel(source, threads=threads)


def _mnn(source: Source, _args: tuple[Any, ...], threads: int) -> Callable[..., object]:
    assert isinstance(source, Path)
    return MnnModel(source, fast=True, threads=threads)


def _openvino(source: Source, args: tuple[Any, ...], threads: int) -> Callable[..., object]:
    """Open an .onnx file in OpenVINO: for the shapes of this call alone, and in float32, for latency."""
    openvino = required("openvino")
    core = openvino.Core()
    model = core.read_model(str(source))
    names = [port.get_any_name() for port in model.inputs]
    model.reshape({name: list(tensor.shape) for name, tensor in fed(names, args, {}).items()})
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def call(*given: Tensor) -> object:
        return request.infer({name: tensor.numpy() for name, tensor in fed(names, given, {}).items()})

    return partial(call)


_TORCH = (".pt2", ".safetensors", ".pt", ".pth")
RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime("torch eager", "torch", "torch", _TORCH, _eager),
        Runtime("torch.compile", "torch", "torch", _TORCH, _compiled),
        Runtime("ONNX Runtime", "onnxruntime", "onnxruntime", (".onnx",), _onnx, "onnx"),
        Runtime("OpenVINO", "openvino", "openvino", (".onnx",), _openvino, "openvino"),
        Runtime("MNN", "mnn", "MNN", (".mnn",), _mnn, "mnn"),
    )
}
"""The runtimes by name, in the order in which a file is opened by them."""

SUFFIXES = tuple(dict.fromkeys(suffix for runtime in RUNTIMES.values() for suffix in runtime.suffixes))
"""The files that one of them opens."""


def runtimes_of(source: Source) -> list[Runtime]:
    """Return the runtimes that could open a file or a model, installed or not."""
    suffix = source.suffix.lower() if isinstance(source, Path) else ".pt2"
    return [runtime for runtime in RUNTIMES.values() if suffix in runtime.suffixes]
