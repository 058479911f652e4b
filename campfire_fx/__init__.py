"""Train a CNN structurally sparse, then get back a smaller dense CNN with exactly the same output."""

from __future__ import annotations

from campfire_fx.acceleration.accelerate import accelerate
from campfire_fx.acceleration.model import AcceleratedModel
from campfire_fx.base import former_names
from campfire_fx.base.errors import (
    AccelerateError,
    AttackError,
    CampfireError,
    CaptureError,
    ExportError,
    RegimeError,
    ReportError,
    ShrinkError,
    TrainError,
)
from campfire_fx.base.version import __version__
from campfire_fx.capture import trace
from campfire_fx.capture.from_onnx.read import read_onnx
from campfire_fx.export import export, load
from campfire_fx.export.bench import bench
from campfire_fx.shrink.dependency import dependency_graph
from campfire_fx.shrink.slim import SlimModel, shrink
from campfire_fx.training.couple import coupled_channels
from campfire_fx.training.model import SparseModel
from campfire_fx.training.purification import Purification, purify
from campfire_fx.training.release import release
from campfire_fx.training.rewinding import Rewinding
from campfire_fx.training.sparsify import sparsify

former_names.install()

__all__ = [
    "AccelerateError",
    "AcceleratedModel",
    "AttackError",
    "CampfireError",
    "CaptureError",
    "ExportError",
    "Purification",
    "RegimeError",
    "ReportError",
    "Rewinding",
    "ShrinkError",
    "SlimModel",
    "SparseModel",
    "TrainError",
    "__version__",
    "accelerate",
    "bench",
    "coupled_channels",
    "dependency_graph",
    "export",
    "load",
    "purify",
    "read_onnx",
    "release",
    "shrink",
    "sparsify",
    "trace",
]
