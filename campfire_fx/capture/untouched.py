"""Run code on a model and leave no trace of it: flags and attributes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def untouched(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Undo what the block does to attributes of these modules, and to lists, dicts and objects that they hold."""
    states = [_state(module) for module in modules]
    try:
        yield
    finally:
        for target, content in (pair for state in states for pair in state):
            _restore(target, content)


_ATOMS = frozenset({bool, int, float, str, type(None)})


def _state(module: nn.Module) -> list[tuple[Any, Any]]:
    state: list[tuple[Any, Any]] = [(module.__dict__, dict(module.__dict__))]
    for name, value in module.__dict__.items():
        if type(value) in _ATOMS or name.endswith("_hooks"):
            continue
        if isinstance(value, (dict, list, set)):
            if value:
                state.append((value, type(value)(value) if type(value) in (list, set) else dict(value)))
            else:
                state.append((value, ()))
        elif _is_plain_object(value):
            state.append((value.__dict__, dict(value.__dict__)))
    return state


def _is_plain_object(value: Any) -> bool:
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, (nn.Module, torch.Tensor, type))
        and not callable(value)
        and not type(value).__module__.startswith("torch")
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
