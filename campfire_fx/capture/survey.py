"""What tracing needs to know of a model beforehand: computed once, used by every trace of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from campfire_fx.analysis.leaf import is_leaf
from campfire_fx.analysis.rules.effects import is_in_place
from campfire_fx.base.compat import buffers_of, parameters_of
from campfire_fx.capture.reach import Reach, reach


class Survey:
    """The modules of `root`: where they are, which are leaves, where each tensor is found, what code may run.

    `opaque`: leaves whose code no trace can follow, by path, each with what its calls gave in a real run.
    """

    def __init__(self, root: nn.Module, opaque: dict[str, list[Any]] | None = None) -> None:
        self.root = root
        self.opaque = opaque or {}
        self.modules: dict[str, nn.Module] = dict(root.named_modules())
        """By path, each module once, under its first path."""
        self.paths: dict[int, str] = {id(module): path for path, module in self.modules.items()}
        self.leaves: set[int] = {
            id(module) for path, module in self.modules.items() if path and (path in self.opaque or is_leaf(module))
        }
        self.changers: set[str] = {
            path for path, module in self.modules.items() if is_in_place(module) and path not in self.opaque
        }
        """Paths of the modules that change their input and return it."""
        self.tensors: dict[int, str] = dict(self._tensors())
        self.python: list[nn.Module] = [m for m in self.modules.values() if id(m) not in self.leaves]
        """The modules whose own Python code is run."""
        self.reach: Reach = reach(self.python)

    def _tensors(self) -> list[tuple[int, str]]:
        """Return (identity, name) of parameters, buffers and plain attributes; names of parameters win."""
        found: list[tuple[int, str]] = []
        named: list[tuple[int, str]] = []
        for path, module in self.modules.items():
            prefix = f"{path}." if path else ""
            for name, value in module.__dict__.items():
                if isinstance(value, torch.Tensor):
                    found.append((id(value), prefix + name))
            for tensors in (buffers_of(module), parameters_of(module)):
                named.extend((id(value), prefix + name) for name, value in tensors.items() if value is not None)
        return found + named[::-1]

    def returns_first_argument(self, node: fx.Node) -> bool:
        """Return whether `node` calls a module that changes its first argument in place and returns it."""
        return node.op == "call_module" and node.target in self.changers
