"""Which Python functions may run while a module is traced, and in which namespaces they look names up."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn

_NOT_USERS = frozenset(sys.stdlib_module_names) | {"torch", "numpy"}


def namespaces(modules: Iterable[nn.Module]) -> dict[int, tuple[dict[str, Any], set[str]]]:
    """Return the namespaces of the user's code that `modules` may reach, each with the names looked up there.

    Walks from the methods of the modules, and of plain objects that they hold, along the names that code mentions.
    """
    found: dict[int, tuple[dict[str, Any], set[str]]] = {}
    seen: set[int] = set()
    pending = list(_entry_points(modules))
    while pending:
        function = pending.pop()
        if id(function.__code__) in seen or not _is_users(function):
            continue
        seen.add(id(function.__code__))
        names = _names(function.__code__)
        scope = function.__globals__
        found.setdefault(id(scope), (scope, set()))[1].update(names)
        for cell in function.__closure__ or ():
            try:
                pending.extend(_functions(cell.cell_contents))
            except ValueError:  # an empty cell
                continue
        for name in names:
            value = scope.get(name)
            pending.extend(_functions(value))
            if isinstance(value, ModuleType) and _is_users(value):
                pending.extend(f for other in names for f in _functions(vars(value).get(other)))
    return found


def _entry_points(modules: Iterable[nn.Module]) -> Iterator[FunctionType]:
    classes: set[type] = set()
    for module in modules:
        classes.add(type(module))
        for value in module.__dict__.values():
            if isinstance(value, (FunctionType, MethodType, functools.partial)):
                yield from _functions(value)
            elif not isinstance(value, (dict, bool, int, float, str, tuple, list, set, type(None))):
                classes.add(type(value))
    for cls in classes:
        yield from _functions(cls)


def _functions(value: Any) -> Iterable[FunctionType]:
    """Return the Python functions that using `value` may run."""
    if isinstance(value, FunctionType):
        return (value,)
    if isinstance(value, type):
        return tuple(_methods(value)) if _is_users(value) else ()
    if isinstance(value, MethodType):
        return _functions(value.__func__)
    if isinstance(value, functools.partial):
        return _functions(value.func)
    wrapped = getattr(value, "__wrapped__", getattr(value, "_torchdynamo_inline", None)) if callable(value) else None
    return (wrapped,) if isinstance(wrapped, FunctionType) else ()


def _methods(cls: type) -> Iterator[FunctionType]:
    # Subclasses too: which of them a class hands out is decided as the code runs.
    for parent in {*cls.__mro__, *cls.__subclasses__()}:
        if _is_users(parent):
            for value in vars(parent).values():
                value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
                # Modules are built before they are traced; plain objects may be built on the way.
                is_construction = issubclass(cls, nn.Module) and getattr(value, "__name__", "") == "__init__"
                if isinstance(value, FunctionType) and not is_construction:
                    yield value


def _is_users(thing: Any) -> bool:
    module = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] not in _NOT_USERS


@functools.lru_cache(maxsize=4096)
def _names(code: CodeType) -> frozenset[str]:
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return frozenset(code.co_names).union(*inner)
