"""Capture the parts of a model that can be captured, where the whole cannot."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from campfire_fx.capture import graphs
from campfire_fx.capture.calls import Call, CallRecord, record_calls
from campfire_fx.capture.evaluate import map_tensors
from campfire_fx.capture.leaf import is_leaf
from campfire_fx.capture.records import Captured, Island
from campfire_fx.capture.structure import with_replacements
from campfire_fx.capture.whole import capture_whole, detached
from campfire_fx.errors import CaptureError

_SHAPES_TRIED = 8


def capture_islands(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], reason: CaptureError) -> Captured:
    """Run `model` on the example, and capture the largest submodules that hold weights and can be captured.

    What comes back is the model's structure with the islands in place; all else is shared with the model given.
    `reason`: why the whole could not be captured; raised if no part can.
    """
    search = _Search(record_calls(model, args, kwargs))
    search.skip("", model, str(reason))
    if not search.islands:
        raise reason
    module = with_replacements(model, {id(model.get_submodule(i.path)): i.module for i in search.islands})
    return Captured(module, tuple(search.islands), tuple(search.untraced), *detached((args, kwargs)))


class _Search:
    """A walk from the whole to its parts; `islands` and `untraced` are what it found."""

    def __init__(self, record: CallRecord) -> None:
        self.islands: list[Island] = []
        self.untraced: list[tuple[str, str]] = []
        self._record = record
        self._seen: set[int] = set()

    def visit(self, path: str, module: nn.Module) -> None:
        """Capture `module`, or go on to its parts."""
        if id(module) in self._seen or not any(True for _ in module.parameters()):
            return
        self._seen.add(id(module))
        if not self._record.reached(module):
            self.untraced.append((path, "never called on the example"))
        elif not self._record.calls_of(module):
            self.skip(path, module, None)  # a container, or used through a method of its own
        elif is_leaf(module):
            self.untraced.append((path, "called by code that cannot be captured; stays as it is"))
        elif self._record.is_used_in_parts(module):
            self.skip(path, module, "code outside of it calls parts of it")
        else:
            try:
                self.islands.append(self._capture(path, module))
            except CaptureError as error:
                self.skip(path, module, str(error))

    def skip(self, path: str, module: nn.Module, reason: str | None) -> None:
        """Note why `module` stays Python, and visit its parts."""
        if reason is not None:
            self.untraced.append((path, reason))
        for name, child in module.named_children():
            self.visit(f"{path}.{name}" if path else name, child)

    def _capture(self, path: str, module: nn.Module) -> Island:
        """Capture `module` so that it is right for every call it got on the example."""
        calls = self._record.calls_of(module)
        device = next(module.parameters()).device
        island = capture_whole(module, *made_up(calls[0], device), path)
        if island.specialisations:
            for call in calls[1:_SHAPES_TRIED]:
                other = capture_whole(module, *made_up(call, device), path)
                if not _alike(island, other):
                    raise CaptureError(
                        f"Calls of {path}: its Python code takes another way on the second input than on the first. "
                        "Move the decision out of the model, or trace its parts."
                    )
        return island


def _alike(island: Island, other: Island) -> bool:
    pair = island.module.train_graph, other.module.train_graph
    if not graphs.same(island.module.graph, other.module.graph) or (pair[0] is None) != (pair[1] is None):
        return False
    return pair[0] is None or pair[1] is None or graphs.same(pair[0], pair[1])


def made_up(call: Call, device: torch.device) -> Call:
    """Return inputs of the shapes in `call`, whose tensors have no data, filled with random numbers.

    Keeping the true inputs of every submodule would take as much memory as training.
    """
    generator = torch.Generator().manual_seed(0)

    def fill(meta: torch.Tensor) -> torch.Tensor:
        if not meta.is_floating_point():
            return torch.zeros(meta.shape, dtype=meta.dtype, device=device)
        return torch.randn(meta.shape, generator=generator).to(device=device, dtype=meta.dtype)

    args, kwargs = map_tensors(call, fill)
    return args, kwargs
