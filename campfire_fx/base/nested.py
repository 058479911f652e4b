"""Tensors in whatever a model takes and gives: lists, dicts and their subclasses, dataclasses, any objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

from campfire_fx.base.compat import pytree

_CLOSED = (str, bytes, int, float, complex, type, nn.Module, ModuleType, FunctionType, BuiltinFunctionType, MethodType)


def tensors_of(value: Any) -> list[torch.Tensor]:
    """Return every tensor in `value`, however nested, in an order that depends on its structure alone."""
    found: list[torch.Tensor] = []
    _collect(value, found, set())
    return found


def _collect(value: Any, found: list[torch.Tensor], above: set[int]) -> None:
    if isinstance(value, torch.Tensor):
        found.append(value)
    elif value is not None and not isinstance(value, _CLOSED) and id(value) not in above:
        above = above | {id(value)}
        for part in _parts(value):
            _collect(part, found, above)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    if type(value) in pytree.SUPPORTED_NODES:
        return pytree.tree_leaves(value)
    return list(vars(value).values()) if hasattr(value, "__dict__") else []
