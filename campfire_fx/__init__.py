"""Train a CNN structurally sparse, then get back a smaller dense CNN with exactly the same output."""

from __future__ import annotations

from campfire_fx.api import sparsify
from campfire_fx.capture import trace
from campfire_fx.channels import dependency_graph
from campfire_fx.errors import (
    AttackError,
    CampfireError,
    CaptureError,
    ExportError,
    RegimeError,
    ReportError,
    ShrinkError,
    TrainError,
)
from campfire_fx.export import export, load
from campfire_fx.model import SparseModel
from campfire_fx.purification import Purification, purify
from campfire_fx.slim import SlimModel, shrink
from campfire_fx.version import __version__

__all__ = [
    "AttackError",
    "CampfireError",
    "CaptureError",
    "ExportError",
    "Purification",
    "RegimeError",
    "ReportError",
    "ShrinkError",
    "SlimModel",
    "SparseModel",
    "TrainError",
    "__version__",
    "dependency_graph",
    "export",
    "load",
    "purify",
    "shrink",
    "sparsify",
    "trace",
]
