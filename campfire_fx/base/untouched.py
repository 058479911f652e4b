"""Run code on a model and leave no trace of it: flags and attributes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import is_
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

from campfire_fx.base.compat import writes_to_each


@contextmanager
def untouched(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Undo what the block does to attributes and hooks of these modules, and to lists, dicts and objects they hold."""
    states = [_state(module) for module in modules]
    try:
        yield
    finally:
        for target, content in (pair for state in states for pair in state):
            _restore(target, content)


_ATOMS = frozenset({bool, int, float, str, type(None)})
_CALL_HOOKS = frozenset({"_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"})
_MOST = 10_000  # a module may hold a whole data set
# Whose objects are not the model's alone (loggers, queues), but for those that just hold attributes.
_OTHERS = (frozenset(sys.stdlib_module_names) | {"torch"}) - {"types", "argparse", "collections"}


def _state(module: nn.Module) -> list[tuple[Any, Any]]:
    """Return what a module holds and what is in that: (dict, list or set, its content now), however nested."""
    state: list[tuple[Any, Any]] = [(module.__dict__, dict(module.__dict__))]
    seen: set[int] = set()
    pending = [v for name, v in module.__dict__.items() if not name.endswith("_hooks") or name in _CALL_HOOKS]
    while pending and len(seen) < _MOST:
        value = pending.pop()
        if type(value) in _ATOMS or id(value) in seen:
            continue
        seen.add(id(value))
        if not isinstance(value, (dict, list, set, tuple)) and _is_plain_object(value):
            value = value.__dict__
        if isinstance(value, dict):
            state.append((value, dict(value)))
            pending += value.values()
        elif isinstance(value, (list, set)):
            state.append((value, type(value)(value) if type(value) in (list, set) else tuple(value)))
            pending += value
        elif isinstance(value, tuple):
            pending += value
    return state


def _is_plain_object(value: Any) -> bool:
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, (nn.Module, torch.Tensor, type, ModuleType, FunctionType, MethodType))
        and type(value).__module__.partition(".")[0] not in _OTHERS
    )


def _restore(target: Any, content: Any) -> None:
    if isinstance(target, list):
        if len(target) != len(content) or any(a is not b for a, b in zip(target, content, strict=True)):
            target[:] = content
    elif len(target) != len(content) or any(k not in target or target[k] is not v for k, v in _pairs(content)):
        target.clear()
        target.update(content)


def _pairs(content: Any) -> Any:
    return content.items() if isinstance(content, dict) else ()


@dataclass(slots=True, eq=False)
class Snapshot:
    """What a module itself holds: another one is equal while no tensor, child or attribute is another or written to.

    What it held stays alive with it, so that nothing new can take its place unseen.
    """

    kind: type
    names: list[str]
    held: list[Any]
    versions: list[int]

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Snapshot)
            and self.versions == other.versions
            and self.names == other.names
            and self.kind is other.kind
            and (all(map(is_, self.held, other.held)) or all(map(_same, self.held, other.held)))
        )


def snapshot(module: nn.Module) -> Snapshot:
    """Return what tells whether a module has changed; not what is written into lists, dicts and objects it holds."""
    own = vars(module)
    parameters, buffers, children = own["_parameters"], own["_buffers"], own["_modules"]
    names, held, versions = [*own, *children], [*own.values(), *children.values()], list[int]()
    if parameters or buffers:
        tensors = [*parameters.values(), *buffers.values()]
        names += [*parameters, *buffers]
        held += tensors
        versions = writes_to_each([tensor for tensor in tensors if tensor is not None])
    return Snapshot(type(module), names, held, versions)


def _same(value: Any, other: Any) -> bool:
    """Return whether an attribute is what it was: the same object, or an equal plain value."""
    plain = type(value) in _ATOMS or (type(value) is tuple and all(type(item) in _ATOMS for item in value))
    return value is other or (plain and type(value) is type(other) and bool(value == other))


@contextmanager
def training_flags(model: nn.Module, training: bool | None) -> Iterator[None]:
    """Set every `training` flag, without running the model's own `train()`, and put all back. None: leave them."""
    flags = [(module, module.training) for module in model.modules()] if training is not None else []
    try:
        for module, _ in flags:
            module.__dict__["training"] = training
        yield
    finally:
        for module, flag in flags:
            module.__dict__["training"] = flag
