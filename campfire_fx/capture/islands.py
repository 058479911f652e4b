"""Capture what can be captured of a model that cannot be captured as it is.

A submodule whose code no trace can follow is left as it is: a leaf of the graph around it. Where the model's own code
cannot be followed, its largest parts that can be are captured one by one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from campfire_fx.analysis.captured import Call, Captured, Island
from campfire_fx.analysis.evaluate import map_tensors
from campfire_fx.analysis.leaf import is_leaf
from campfire_fx.base.errors import CaptureError
from campfire_fx.capture.calls import CallRecord, record_calls
from campfire_fx.capture.survey import Survey
from campfire_fx.capture.tracer import FailedInside
from campfire_fx.capture.variants import ways_of
from campfire_fx.capture.whole import Traced, detached, island, trace_graphs
from campfire_fx.layers.structure import with_replacements

_SHAPES_TRIED = 8
_FEW, _MANY = 2, 16
_MOST_OPAQUE = 64  # each costs a trace of what is around it


def capture_islands(model: nn.Module, examples: list[Call], reason: CaptureError) -> Captured:
    """Run `model` on the examples, and capture it around its opaque submodules, else the largest parts that can be.

    What comes back is the model's structure with the islands in place; all else is shared with the model given.
    `reason`: why the whole could not be captured; raised if no part can.
    """
    search = _Search(model, record_calls(model, examples), len(examples))
    try:
        search.capture("", model, examples, reason)
    except CaptureError as error:
        search.skip("", model, str(error))
    if not search.islands:
        raise reason
    module: nn.Module = search.islands[0].module
    if search.islands[0].path:
        module = search.with_islands(model, search.islands)
    (args, kwargs), *others = detached(examples)
    return Captured(module, tuple(search.islands), tuple(search.untraced), args, kwargs, tuple(others))


class _Search:
    """A walk from the whole to its parts; `islands` and `untraced` are what it found."""

    def __init__(self, model: nn.Module, record: CallRecord, examples: int) -> None:
        self.islands: list[Island] = []
        self.untraced: list[tuple[str, str]] = []
        self._model = model
        self._record = record
        self._examples = examples
        self._seen: set[int] = set()
        self._opaque: dict[int, str] = {}

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
        elif id(module) in self._opaque:
            self.skip(path, module, self._opaque[id(module)])
        elif self._record.is_used_in_parts(module):
            self.skip(path, module, "code outside of it uses parts of it")
        else:
            self._capture_or_skip(path, module)

    def _capture_or_skip(self, path: str, module: nn.Module) -> None:
        device = next(module.parameters()).device
        calls = self._record.calls_of(module)[:_SHAPES_TRIED]
        small = with_few(calls[0])
        for trial in ([small, *calls], calls) if small is not None else (calls,):
            try:
                self.capture(path, module, [made_up(call, device) for call in trial])
                break
            except CaptureError as error:
                reason = str(error)
        else:
            self.skip(path, module, reason)

    def skip(self, path: str, module: nn.Module, reason: str | None) -> None:
        """Note why `module` stays Python, and visit its parts."""
        self._seen.add(id(module))
        if reason is not None:
            self.untraced.append((path, reason))
        for name, child in module.named_children():
            self.visit(f"{path}.{name}" if path else name, child)

    def capture(self, path: str, module: nn.Module, calls: list[Call], failed: CaptureError | None = None) -> None:
        """Capture `module` so that it is right for every call it got on the example.

        `failed`: the error of a first try. Raises CaptureError where the module's own code cannot be followed.
        """
        first, survey = self._trace(module, calls[0], failed)

        def trace(call: Call) -> Traced:
            if call is calls[0]:
                return first
            run = 0 if path else next(number for number, known in enumerate(calls) if known is call)
            return trace_graphs(Survey(module, self._opaque_in(module, run)) if run else survey, *call)

        ways = ways_of(module, calls, trace)
        if len(ways) > 1 and self._examples == 1:
            raise CaptureError(
                f"Calls of {path}: its Python code takes another branch on the second input than on the first. "
                "Move the decision out of the model, or trace its parts."
            )
        place = len(self.islands)
        for inner in survey.opaque:
            opaque = module.get_submodule(inner)
            self.skip(f"{path}.{inner}" if path else inner, opaque, self._opaque[id(opaque)])
        root = self.with_islands(module, self.islands[place:])
        self.islands.insert(place, island(root, ways, path, survey.opaque))

    def _trace(self, module: nn.Module, call: Call, failed: CaptureError | None) -> tuple[Traced, Survey]:
        """Trace `module`; each time that fails inside a submodule, once more with that submodule as a leaf."""
        for _ in range(_MOST_OPAQUE):
            if failed is not None:
                self._give_up_on(module, failed)
            survey = Survey(module, self._opaque_in(module))
            try:
                return trace_graphs(survey, *call), survey
            except CaptureError as error:
                failed = error
        assert failed is not None
        raise failed

    def _give_up_on(self, root: nn.Module, failed: CaptureError) -> None:
        """Note the submodule in which tracing failed as opaque. Raises the error where it cannot be a leaf."""
        part = root.get_submodule(failed.path) if isinstance(failed, FailedInside) else root
        if part is root or id(part) in self._opaque or not self._record.may_be_leaf(part):
            raise failed
        self._opaque[id(part)] = str(failed)

    def _opaque_in(self, root: nn.Module, run: int = 0) -> dict[str, list[Any]]:
        """Return the outermost opaque submodules of `root`, by path, and what their calls gave."""
        found: dict[str, list[Any]] = {}
        for path, module in root.named_modules():
            if path and id(module) in self._opaque and not any(path.startswith(f"{outer}.") for outer in found):
                found[path] = self._record.outputs_of(module, run)
        return found

    def with_islands(self, root: nn.Module, islands: list[Island]) -> nn.Module:
        """Return `root`, a part of the model, with islands in place."""
        return with_replacements(root, {id(self._model.get_submodule(i.path)): i.module for i in islands})


def with_few(call: Call) -> Call | None:
    """Return the shapes in `call` with a batch of a few in place of many (the boxes of a detector) or none."""
    sizes: set[int] = set()
    map_tensors(call, lambda meta: sizes.add(meta.shape[0] if meta.dim() else -1))
    if len(sizes) != 1 or not sizes.isdisjoint(range(1, _MANY)) or -1 in sizes:
        return None
    args, kwargs = map_tensors(call, lambda meta: meta.new_empty((_FEW, *meta.shape[1:])))
    return args, kwargs


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
