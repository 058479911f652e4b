"""The files that a run exports, each loaded again and compared with the network that it was made from."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.outcome import Reloaded
from campfire_fx.app.train.pictures import Chosen
from campfire_fx.app.train.streamed import Streamed
from campfire_fx.app.train.tally import outputs
from campfire_fx.export import export, load
from campfire_fx.report.progress import progress

_COMPARED = 2048  # images on which files are compared, where each has to be read for it


def export_and_reload(
    slim: nn.Module, data: ImageData, folder: Path, formats: Sequence[str] | None
) -> tuple[Reloaded, ...]:
    """Export in every format asked for, load each file and compare it on the test images.

    Args:
        slim: the network.
        data: whose test images.
        folder: for the files.
        formats: suffixes; None: those whose packages are there.
    """
    if formats is None:
        onnx = all(importlib.util.find_spec(package) for package in ("onnx", "onnxscript", "onnxruntime"))
        formats = ("safetensors", "pt2", "onnx") if onnx else ("safetensors", "pt2")
    split = data.test
    if isinstance(split, Streamed):
        split = replace(split, pictures=Chosen(split.pictures, tuple(range(len(split))[:_COMPARED])))
    expected = outputs(slim, split, data)
    found = []
    with progress("Exporting", total=len(formats)) as advance:
        for suffix in formats:
            advance(0, f"slim.{suffix}")
            path = export(slim, folder / f"slim.{suffix}").path
            found.append(_reload(path, expected, outputs(load(path), split, data)))
            advance(1)
    return tuple(found)


def _reload(path: Path, expected: torch.Tensor, found: torch.Tensor) -> Reloaded:
    difference = float((found - expected).abs().max() / expected.abs().max())
    same = int((found.argmax(1) == expected.argmax(1)).sum())
    return Reloaded(path.name, path.stat().st_size, difference, same, len(expected))
