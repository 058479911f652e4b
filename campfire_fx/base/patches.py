"""Attributes of modules and classes, replaced for a while and put back; one thread at a time.

What is replaced is seen by every thread of the process. So there is one lock, which whoever replaces something holds
until all is put back; and what is put in place does something else for the thread that holds it alone: functions ask
who calls them or look for proxies, which no other thread has, and for what others compare by identity there is
`put_here`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import CellType, ModuleType, TracebackType
from typing import Any, ParamSpec, TypeVar

_ABSENT = object()
_LOCK = threading.RLock()
_holders: list[int] = []
P = ParamSpec("P")
R = TypeVar("R")


def one_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` made to wait until no other thread traces a model; it may trace some itself."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _LOCK:
            return function(*args, **kwargs)

    return call


def is_patched_here() -> bool:
    """Return whether the thread that runs now has replaced something."""
    return bool(_holders) and _holders[-1] == threading.get_ident()


class Patches:
    """Replace entries of dicts (module globals), attributes of classes, contents of cells; leaving the block undoes it.

    Other threads wait where they want to replace something too, so that all is put back in the right order.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def put(self, holder: dict[Any, Any] | type | CellType, name: Any, value: Any) -> None:
        """Set `name` in `holder`, a dict or a class, or the `cell_contents` of a cell, until the block ends."""
        if isinstance(holder, CellType):
            before: Any = holder.cell_contents
        else:
            before = (holder if isinstance(holder, dict) else vars(holder)).get(name, _ABSENT)
        self._undo.append(functools.partial(_set, holder, name, before))
        _set(holder, name, value)

    def put_here(self, module: ModuleType, name: str, value: Any) -> None:
        """Set `name` of a module until the block ends for the thread that runs now; others find what was there.

        For classes: others may compare them by identity, pickle what is of them, or import them by name.
        """
        before, real, thread = type(module), getattr(module, name), threading.get_ident()
        read = property(lambda _: value if threading.get_ident() == thread else real)
        self._undo.append(functools.partial(setattr, module, "__class__", before))
        module.__class__ = type(before.__name__, (before,), {name: read})

    def __enter__(self) -> Patches:
        _LOCK.acquire()
        _holders.append(threading.get_ident())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            while self._undo:
                self._undo.pop()()
        finally:
            _holders.pop()
            _LOCK.release()


def _set(holder: dict[Any, Any] | type | CellType, name: Any, value: Any) -> None:
    if isinstance(holder, dict):
        if value is _ABSENT:
            del holder[name]
        else:
            holder[name] = value
    elif value is _ABSENT:
        delattr(holder, name)
    else:
        setattr(holder, name, value)
