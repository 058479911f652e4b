"""New containers around the same leaf modules and the same tensors."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import nn

from campfire_fx.base.compat import (
    TABLES,
    UNSAVED,
    buffers_of,
    children_of,
    layout_version,
    parameters_of,
    unsaved_buffers,
)
from campfire_fx.layers.belongings import plain_attributes

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class HoldingSequential(nn.Sequential):
    """A Sequential whose children have no forward any more: a graph calls the layers in them. TorchScript skips it."""

    @torch.jit.unused
    def forward(self, _input: Any) -> Any:
        """Raise NotImplementedError, as the children would."""
        raise NotImplementedError("The layers in it are called by the graph of the model. Call the model.")

    def _get_name(self) -> str:
        return nn.Sequential.__name__


def share_structure(source: nn.Module, target: nn.Module, leaves: set[int], *, keep_classes: bool) -> None:
    """Give `target` the tensors and children of `source`: the same leaf objects, new containers around them.

    A module under two names stays one. `keep_classes`: containers keep class and attributes; else they are plain
    modules, that a file holds without the code of the user.
    """
    made: dict[int, nn.Module] = {}
    pending = [(source, target)]
    while pending:
        old, new = pending.pop()
        new.__dict__["training"] = old.training
        new.__dict__["_version"] = layout_version(old)  # the version of the layout, which state_dict() writes
        parameters_of(new).update(parameters_of(old))
        buffers_of(new).update(buffers_of(old))
        unsaved_buffers(new).update(unsaved_buffers(old))
        new.__dict__.update({name: v for name, v in old.__dict__.items() if isinstance(v, torch.Tensor)})
        if not keep_classes:
            new.__dict__.update(plain_attributes(old, new, objects=new is target))
        for name, child in children_of(old).items():
            if child is None:
                children_of(new)[name] = None
                continue
            if id(child) not in made:
                is_container = children_of(child) and id(child) not in leaves
                made[id(child)] = _container(child, keep_classes) if is_container else child
                if is_container:
                    pending.append((child, made[id(child)]))
            children_of(new)[name] = made[id(child)]


def _container(module: nn.Module, keep_class: bool) -> nn.Module:
    """Return an empty module; torch's own containers always keep their class, so that indexing works."""
    if keep_class:
        return shallow_copy(module)
    if type(module) is nn.Sequential and any(children_of(child) for child in module):
        return HoldingSequential()
    return type(module)() if type(module) in _CONTAINERS else nn.Module()


def shallow_copy(module: nn.Module) -> nn.Module:
    """Return a module of the same class, attributes, tensors, hooks and children, that can be given others of them."""
    copy = object.__new__(type(module))
    copy.__dict__.update(module.__dict__)
    for name, value in module.__dict__.items():
        if name.endswith("_hooks") or name in (*TABLES, UNSAVED):
            copy.__dict__[name] = value.copy()
        elif isinstance(value, MethodType) and value.__self__ is module:
            copy.__dict__[name] = MethodType(value.__func__, copy)
    return copy


def with_replacements(model: nn.Module, replacements: dict[int, nn.Module]) -> nn.Module:
    """Return `model` with some modules (by identity) replaced, wherever they stand.

    Only the modules that hold a replaced one are copied, without their tensors; the model given stays as it is.
    """
    done: dict[int, nn.Module] = dict(replacements)

    def visit(module: nn.Module) -> nn.Module:
        if id(module) not in done:
            children = {name: visit(child) for name, child in children_of(module).items() if child is not None}
            changed = {name: child for name, child in children.items() if child is not children_of(module)[name]}
            done[id(module)] = module
            if changed:
                done[id(module)] = copy = shallow_copy(module)
                children_of(copy).update(changed)
        return done[id(module)]

    result = visit(model)
    for module in result.modules():
        if id(module) in done or not children_of(module):
            continue
        for name, value in module.__dict__.items():
            module.__dict__[name] = _replaced(value, done)
    return result


def _replaced(value: Any, done: dict[int, nn.Module]) -> Any:
    """Return `value` with the modules in it replaced, if it is a module or a list or tuple of some."""
    if isinstance(value, nn.Module):
        return done.get(id(value), value)
    if type(value) in (list, tuple) and any(isinstance(item, nn.Module) for item in value):
        return type(value)(_replaced(item, done) for item in value)
    return value
