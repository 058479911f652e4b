"""Which Python functions may run while a module is traced, and in which namespaces they look names up."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn

from campfire_fx.base.compat import CachedFunction
from campfire_fx.capture.attempts import handlers

_NOT_USERS = frozenset(sys.stdlib_module_names) | {"torch", "numpy"}
_CELL = "cell_contents"
_OURS = f"{__package__}."  # code of a model may trace another


@dataclass(frozen=True, slots=True)
class Reach:
    """What a trace may run of the user's code.

    Attributes:
        namespaces: by id, each with the names that are looked up in it.
        handlers: ids of the code objects that handle errors.
        caches: classes and closures' cells that hold `lru_cache`d functions, each with the attribute's name.
    """

    namespaces: dict[int, tuple[dict[str, Any], set[str]]]
    handlers: frozenset[int]
    caches: tuple[tuple[Any, str], ...] = ()


def reach(modules: Iterable[nn.Module]) -> Reach:
    """Return what `modules` may reach.

    Walks from their methods, and those of plain objects that they hold, along the names that code mentions.
    """
    found: dict[int, tuple[dict[str, Any], set[str]]] = {}
    seen: dict[int, CodeType] = {}
    known: set[int] = set()
    classes, functions = _entry_points(modules)
    caches: dict[tuple[int, str], tuple[Any, str]] = {}
    pending = [*functions, *(function for cls in classes for function in _functions(cls))]
    while pending:
        function = pending.pop()
        if id(function.__code__) in seen or not _is_users(function):
            continue
        seen.update((id(code), code) for code in _codes(function.__code__))
        pending.extend(_in_closure(function))
        caches.update({(id(cell), _CELL): (cell, _CELL) for cell in _cached_cells(function)})
        scope = function.__globals__
        if _is_of_library(scope.get("__name__")):  # a decorator of torch's goes by the name of what it decorates
            continue
        names = _names(function.__code__)
        found.setdefault(id(scope), (scope, set()))[1].update(names)
        for value in _mentioned(scope, names):
            if id(value) not in known:
                known.add(id(value))
                pending.extend(_functions(value))
                if isinstance(value, type):
                    classes.add(value)
    caches.update({(id(cls), name): (cls, name) for cls, name in _cached_methods(classes)})
    return Reach(found, handlers(seen.values()), tuple(caches.values()))


def is_cached(value: Any) -> bool:
    """Return whether a function, or what a class holds as a method, keeps its results by its arguments."""
    return isinstance(getattr(value, "__func__", value), CachedFunction)


def _cached_cells(function: FunctionType) -> Iterator[CellType]:
    for cell in function.__closure__ or ():
        try:
            if is_cached(cell.cell_contents):
                yield cell
        except ValueError:  # an empty cell
            continue


def _cached_methods(classes: Iterable[type]) -> Iterator[tuple[type, str]]:
    for parent in {parent for cls in classes for parent in cls.__mro__ if _is_users(parent)}:
        yield from ((parent, name) for name, value in vars(parent).items() if is_cached(value))


def _in_closure(function: FunctionType) -> Iterator[FunctionType]:
    for cell in function.__closure__ or ():
        try:
            yield from _functions(cell.cell_contents)
        except ValueError:  # an empty cell
            continue


def _mentioned(scope: dict[str, Any], names: Iterable[str]) -> Iterator[Any]:
    """Yield what code may reach by these names: in its namespace, and in modules that it knows or imports."""
    package = scope.get("__package__")
    namespaces = [scope]
    for space in namespaces:  # which grows on the way
        for name in names:
            value = space.get(name)
            if value is None and space is scope:  # `from .blocks import f` inside of a function
                value = sys.modules.get(name) or sys.modules.get(f"{package}.{name}")
            if not isinstance(value, ModuleType):
                yield value
            elif _is_users(value) and all(vars(value) is not other for other in namespaces):
                namespaces.append(vars(value))


def _entry_points(modules: Iterable[nn.Module]) -> tuple[set[type], list[FunctionType]]:
    """Return the classes of modules and of plain objects that they hold, and the functions that they hold."""
    classes: set[type] = set()
    functions: list[FunctionType] = []
    for module in modules:
        classes.add(type(module))
        for value in module.__dict__.values():
            if isinstance(value, (FunctionType, MethodType, functools.partial)):
                functions.extend(_functions(value))
            elif not isinstance(value, (dict, bool, int, float, str, tuple, list, set, type(None))):
                classes.add(type(value))
    return classes, functions


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
    if type(value) in (dict, list, tuple):  # a table of functions, classes, or objects that are called
        items = value.values() if type(value) is dict else value
        return [function for item in items if callable(item) for function in _functions(item)]
    wrapped = getattr(value, "__wrapped__", getattr(value, "_torchdynamo_inline", None)) if callable(value) else None
    if isinstance(wrapped, FunctionType):
        return (wrapped,)
    return () if isinstance(value, nn.Module) else _functions(type(value))


def _methods(cls: type) -> Iterator[FunctionType]:
    # Subclasses too: which of them a class hands out is decided as the code runs.
    for parent in {*cls.__mro__, *type.__subclasses__(cls)}:
        if _is_users(parent):
            for value in vars(parent).values():
                value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
                value = getattr(value, "__wrapped__", value) if is_cached(value) else value
                # Modules are built before they are traced; plain objects may be built on the way.
                is_construction = issubclass(cls, nn.Module) and getattr(value, "__name__", "") == "__init__"
                if isinstance(value, FunctionType) and not is_construction:
                    yield value


def _is_users(thing: Any) -> bool:
    module = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None)
    return isinstance(module, str) and not _is_of_library(module)


def _is_of_library(module: Any) -> bool:
    return isinstance(module, str) and (module.partition(".")[0] in _NOT_USERS or module.startswith(_OURS))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


@functools.lru_cache(maxsize=4096)
def _names(code: CodeType) -> frozenset[str]:
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return frozenset(code.co_names).union(*inner)
