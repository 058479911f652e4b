"""Run code on a model and leave no trace of it: flags and attributes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

from campfire_fx.base.compat import writes_to


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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a module itself holds: another one is equal while no tensor, child or attribute is another or written to.

    What it held stays alive with it, so that nothing new can take its place unseen.
    """

    content: tuple[Any, ...]
    held: tuple[Any, ...] = field(compare=False, repr=False)


def snapshot(module: nn.Module) -> Snapshot:
    """Return what tells whether a module has changed; not what is written into lists, dicts and objects it holds."""
    content: list[Any] = [type(module)]
    held: list[Any] = []
    for name, value in vars(module).items():
        for key, item in value.items() if name in _TABLES else ((None, value),):
            content.append((name, key, _identity(item)))
            held.append(item)
    return Snapshot(tuple(content), tuple(held))


_TABLES = ("_parameters", "_buffers", "_modules")


def _identity(value: Any) -> Any:
    """Return plain values themselves, and of tensors how often they were written to."""
    if isinstance(value, torch.Tensor):
        return id(value), 0 if value.is_inference() else writes_to(value)
    plain = type(value) in _ATOMS or (type(value) is tuple and all(type(item) in _ATOMS for item in value))
    return value if plain else id(value)


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
