"""Which submodules a run of a model calls, with inputs of which shapes, and from where."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from campfire_fx.analysis.captured import Call
from campfire_fx.analysis.evaluate import map_tensors
from campfire_fx.base.compat import writes_to
from campfire_fx.base.copies import private_copy
from campfire_fx.base.patches import Patches
from campfire_fx.capture.execute import run_in_place


class CallRecord:
    """The calls of one run on each of the examples. Tensors among the inputs are kept without their data."""

    def __init__(self, model: nn.Module) -> None:
        self._calls: dict[int, list[Call]] = {}
        self._signatures: set[tuple[int, str]] = set()
        self._used_in_parts: set[int] = set()
        self._running: list[tuple[int, list[tuple[torch.Tensor, int]]]] = []
        self._outputs: dict[int, list[list[Any]]] = {}
        self._runs = 0
        self._no_leaves: set[int] = set()
        self._parents: dict[int, set[int]] = {}
        self._thread = threading.get_ident()
        for module in model.modules():
            for child in module.children():
                self._parents.setdefault(id(child), set()).add(id(module))

    def calls_of(self, module: nn.Module) -> list[Call]:
        """Return the calls of `module`, one for each shape of inputs."""
        return self._calls.get(id(module), [])

    def reached(self, module: nn.Module) -> bool:
        """Return whether `module` or a part of it was called."""
        return any(id(part) in self._calls for part in module.modules())

    def is_used_in_parts(self, module: nn.Module) -> bool:
        """Return whether a part of `module` was called, or its tensors read, while `module` was not running."""
        return id(module) in self._used_in_parts

    def outputs_of(self, module: nn.Module, run: int = 0) -> list[Any]:
        """Return what each call of `module` gave on an example, tensors without their data."""
        runs = self._outputs.get(id(module), [])
        return runs[run] if run < len(runs) else []

    def begin(self) -> None:
        """Note that a run on another example begins."""
        self._runs += 1

    def may_be_leaf(self, module: nn.Module) -> bool:
        """Return whether `module`, seen from outside, is an operation: tensors out, and no tensor given is changed."""
        return id(module) in self._outputs and id(module) not in self._no_leaves

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note that a call begins, if it is one of this run and not of another thread."""
        if threading.get_ident() != self._thread:
            return
        signature = (id(module), signature_of((args, kwargs)))
        if signature not in self._signatures:
            self._signatures.add(signature)
            self._calls.setdefault(id(module), []).append(map_tensors((args, kwargs), _without_data))
        self._note_callers(id(module))
        self._running.append((id(module), [(t, writes_to(t)) for t in _tensors((args, kwargs))]))

    def leave(self, output: Any) -> None:
        """Note that the innermost call ends."""
        if threading.get_ident() != self._thread:
            return
        module, versions = self._running.pop()
        outputs = self._outputs.setdefault(module, [])
        outputs += [[] for _ in range(self._runs - len(outputs))]
        outputs[-1].append(map_tensors(output, _without_data))
        if not _is_of_tensors(output) or any(writes_to(tensor) != version for tensor, version in versions):
            self._no_leaves.add(module)

    def read(self, module: nn.Module) -> None:
        """Note that code reads a tensor of `module`."""
        if threading.get_ident() == self._thread and all(caller != id(module) for caller, _ in self._running):
            self._used_in_parts.add(id(module))
            self._note_callers(id(module))

    def _note_callers(self, module: int) -> None:
        """Mark the modules around a called one up to the nearest that runs: none of them made the call."""
        pending, around = [module], set[int]()
        running = {caller for caller, _ in self._running}
        while pending:
            parents = self._parents.get(pending.pop(), set())
            if not parents.intersection(running):
                pending.extend(parents - around)
                around |= parents
        self._used_in_parts |= around


def record_calls(model: nn.Module, examples: Sequence[Call]) -> CallRecord:
    """Run a copy of `model` on real inputs; return what the submodules of `model` were called with."""
    copied = private_copy(model)
    paths = dict(model.named_modules(remove_duplicate=False))
    originals = {module: paths[path] for path, module in copied.named_modules() if path in paths}
    record = CallRecord(model)
    for module, original in originals.items():
        if module is not copied:
            module.register_forward_pre_hook(_entering(record, original), with_kwargs=True)
            module.register_forward_hook(lambda *call: record.leave(call[-1]), always_call=True)
    real = nn.Module.__getattr__

    def read(module: nn.Module, name: str) -> Any:
        value = real(module, name)
        if isinstance(value, torch.Tensor) and module in originals:
            record.read(originals[module])
        return value

    with Patches() as patches:
        patches.put(nn.Module, "__getattr__", read)
        for args, kwargs in examples:
            record.begin()
            run_in_place(copied, args, kwargs)
    return record


def _entering(record: CallRecord, original: nn.Module) -> Callable[..., None]:
    return lambda _module, args, kwargs: record.enter(original, args, kwargs)


def _tensors(value: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    map_tensors(value, found.append)
    return found


def _is_of_tensors(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_of_tensors, value))
    if isinstance(value, dict):
        return all(map(_is_of_tensors, value.values()))
    return value is None or isinstance(value, torch.Tensor)


def signature_of(value: Any) -> str:
    """Return text that two inputs share if code that sees only shapes cannot tell them apart."""
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__}[{', '.join(map(signature_of, value))}]"
    if isinstance(value, dict):
        return f"{type(value).__name__}{[(key, signature_of(item)) for key, item in value.items()]}"
    if hasattr(value, "__dict__"):
        return f"{type(value).__name__}({signature_of(vars(value))})"
    return repr(value)


def _without_data(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
