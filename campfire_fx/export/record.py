"""The fact that an export leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """What `export` wrote.

    Attributes:
        path: the file with the weights.
        format: its suffix without the dot: "onnx", "pt2", "mnn", "safetensors", "pt" or "pth".
        bytes: size of all files written.
        difference: largest relative difference of the reloaded file's outputs from the model's.
        files: the files written: the path, and the model code where the format has it.
        free: for .onnx, .pt2 and .mnn, the input axes whose size is free, as `x[0]`.
        left_out: where the model has several graphs, for different examples, those whose graph is not in the file.
    """

    path: Path
    format: str
    bytes: int
    difference: float
    files: tuple[Path, ...]
    free: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
