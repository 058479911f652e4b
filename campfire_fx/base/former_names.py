"""Modules under the names they had before: old imports work on, and so do files that name classes by them."""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Former name -> name now; what lies below a name moved with it. Only names that documents, checkpoints or pickles hold.
FORMER = {
    "callbacks": "training.callbacks",
    "capture.dual": "layers.dual",
    "capture.graphs": "base.frozen_graphs",
    "errors": "base.errors",
    "masked": "layers.masked",
    "master": "layers.dense_weights",
    "model": "training.model",
    "numbers": "base.numbers",
    "pictures": "report.pictures",
    "plan": "analysis.plan",
    "robustness": "app.robustness",
    "slim": "shrink.slim",
    "train": "app.train",
}
_PACKAGE = __name__.partition(".")[0]


class _Finder(MetaPathFinder, Loader):
    """Finds a module under its former name, and gives the one module that there is."""

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if name_now(fullname) != fullname else None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(name_now(module.__name__))


def name_now(module: str) -> str:
    """Return the name that a module has now."""
    package, _, name = module.partition(".")
    if package == _PACKAGE:
        for former, now in FORMER.items():
            if name == former or name.startswith(f"{former}."):
                return f"{package}.{now}{name[len(former) :]}"
    return module


def install() -> None:
    """Let `import` know the former names; it is asked first, since a folder that moved still lies in its parent."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
