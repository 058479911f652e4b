"""Copies of a model to work on, and how they come to own their memory.

Most weights are cut soon after the copy is made, so the working copy only borrows its parameters; those that were
not replaced by smaller ones in the end are copied then.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_ATOMS = frozenset({bool, int, float, complex, str, bytes, type(None), type(...), type})
_EMPTY = frozenset({dict, OrderedDict, set})
_COPYING = ("__copy__", "__deepcopy__", "__getstate__", "__setstate__", "__reduce__", "__reduce_ex__")


def private_copy(model: nn.Module) -> nn.Module:
    """Deep-copy a model; weights that hooks compute (prune masks) are copied as plain tensors."""
    memo: dict[int, object] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)


def borrowing_copy(model: nn.Module) -> nn.Module:
    """Copy a model but for its parameters, which stay the model's own; they must not be written to.

    Where a class copies in a way of its own, parameters are computed, or a hook might write to them, it is a
    `private_copy`.
    """
    modules = list(model.modules())
    if any(module._forward_pre_hooks or parametrize.is_parametrized(module) for module in modules):
        return private_copy(model)
    if not all(_copies_plainly(cls) for cls in {type(module) for module in modules}):
        return private_copy(model)
    memo: dict[int, Any] = {id(module): object.__new__(type(module)) for module in modules}
    shells = [(module, memo[id(module)]) for module in modules]
    for module, shell in shells:
        attributes = vars(shell)
        for name, value in vars(module).items():
            if type(value) in _ATOMS:
                attributes[name] = value
            elif name in ("_modules", "_buffers"):
                attributes[name] = {key: _copied(item, memo) for key, item in value.items()}
            elif name != "_parameters":
                attributes[name] = _copied(value, memo)
    for module, shell in shells:  # last: what other attributes refer to as well has been copied, and is in the memo
        shell.__dict__["_parameters"] = {
            name: memo.get(id(parameter), parameter) for name, parameter in module._parameters.items()
        }
    return memo[id(model)]


def own_parameters(model: nn.Module, lender: nn.Module) -> dict[int, Tensor]:
    """Copy the parameters that a model still borrows, in place; returns the copies by the id of the lender's."""
    borrowed = {id(parameter) for parameter in lender.parameters()}
    memo: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in borrowed:
                module._parameters[name] = copy.deepcopy(parameter, memo)
    return {key: memo[key] for key in borrowed & memo.keys()}


def _copies_plainly(cls: type) -> bool:
    """Whether copying a module means copying its attributes, as it does where a class says nothing else."""
    for name in _COPYING:
        owner = next((base for base in cls.__mro__ if name in vars(base)), object)
        if owner is not object and not owner.__module__.startswith("torch.nn.modules."):
            return False
    return True


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in _EMPTY and not value:
        return kind()
    if kind in _ATOMS or (kind is tuple and all(type(item) in _ATOMS for item in value)):
        return value
    known = memo.get(id(value))
    if known is not None:
        return known
    return _cloned(value, memo) if kind is Tensor else copy.deepcopy(value, memo)


def _cloned(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """Copy a plain tensor that fills memory of its own as `deepcopy` would, in a third of the time.

    Memory is noted where `deepcopy` looks for it, so that tensors that share it go on sharing it.
    """
    if tensor.layout is not torch.strided or not tensor.is_contiguous() or tensor.requires_grad or tensor.__dict__:
        return copy.deepcopy(tensor, memo)
    storage = tensor.untyped_storage()
    storages: dict[int, Any] = memo.setdefault("torch", {})  # type: ignore[call-overload]
    if storage.nbytes() != tensor.numel() * tensor.element_size() or storage._cdata in storages:
        return copy.deepcopy(tensor, memo)
    memo[id(tensor)] = result = tensor.clone()
    storages[storage._cdata] = result.untyped_storage()
    return result
