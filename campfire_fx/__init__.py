"""Train a CNN structurally sparse, then get back a smaller dense CNN with exactly the same output."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from campfire_fx.base import former_names, records
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

if TYPE_CHECKING:
    from campfire_fx.acceleration.accelerate import accelerate
    from campfire_fx.acceleration.model import AcceleratedModel
    from campfire_fx.capture.entry import trace
    from campfire_fx.capture.from_onnx.read import read_onnx
    from campfire_fx.export.api import export, load
    from campfire_fx.export.bench import bench
    from campfire_fx.shrink.dependency import dependency_graph
    from campfire_fx.shrink.slim import SlimModel, shrink
    from campfire_fx.training.couple import coupled_channels
    from campfire_fx.training.distillation import distillation_loss
    from campfire_fx.training.model import SparseModel
    from campfire_fx.training.norms import update_norms
    from campfire_fx.training.purification import Purification, purify
    from campfire_fx.training.release import release
    from campfire_fx.training.rewinding import Rewinding
    from campfire_fx.training.sparsify import sparsify

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
    "distillation_loss",
    "export",
    "load",
    "purify",
    "read_onnx",
    "release",
    "shrink",
    "sparsify",
    "trace",
    "update_norms",
]

_WHERE = {
    "AcceleratedModel": "acceleration.model",
    "Purification": "training.purification",
    "Rewinding": "training.rewinding",
    "SlimModel": "shrink.slim",
    "SparseModel": "training.model",
    "accelerate": "acceleration.accelerate",
    "bench": "export.bench",
    "coupled_channels": "training.couple",
    "dependency_graph": "shrink.dependency",
    "distillation_loss": "training.distillation",
    "export": "export.api",
    "load": "export.api",
    "purify": "training.purification",
    "read_onnx": "capture.from_onnx.read",
    "release": "training.release",
    "shrink": "shrink.slim",
    "sparsify": "training.sparsify",
    "trace": "capture.entry",
    "update_norms": "training.norms",
}


class _Package(ModuleType):
    """This package. What needs torch is imported when it is first asked for: help and completion of commands need none.

    `shrink` and `export` are functions here, and folders, which an import would put in the place of the functions.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            if name in _WHERE:
                value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
            elif not name.startswith("_"):
                return importlib.import_module(f"{__name__}.{name}")  # a room, as campfire_fx.sparsity
            else:
                raise ModuleNotFoundError(name=f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'") from None
        vars(self)[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _WHERE or not isinstance(value, ModuleType):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *__all__})


sys.modules[__name__].__class__ = _Package
former_names.install()


def _html_of(record: Any) -> str | None:
    from campfire_fx.report.notebook import html_of  # slow to load

    return html_of(record)


records.shown_by(_html_of)
