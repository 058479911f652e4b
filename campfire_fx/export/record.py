"""The fact that an export leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from campfire_fx.base.records import Record


@dataclass(frozen=True, slots=True)
class ExportRecord(Record):
    """What `export` wrote.

    Attributes:
        path: the file with the weights.
        format: its suffix without the dot: "onnx", "pt2", "mnn", "safetensors", "pt" or "pth".
        bytes: size of all files written.
        difference: largest relative difference of the reloaded file's outputs from the model's.
        files: the files written: the path, and the model code where the format has it.
        free: for .onnx, .pt2 and .mnn, the input axes whose size is free, as `x[0]`.
        left_out: where the model has several graphs, for different examples, those whose graph is not in the file.
        half: whether it is in float16; `difference` is from the model as it was given, all the same.
    """

    path: Path
    format: str
    bytes: int
    difference: float
    files: tuple[Path, ...]
    free: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    half: bool = False


@dataclass(frozen=True, slots=True)
class ForOnnx:
    """What is asked of an .onnx file: names of inputs and outputs, () for torch's; the version of the operators."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    opset: int | None = None
