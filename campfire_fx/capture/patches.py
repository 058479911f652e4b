"""Attributes of modules and classes, replaced for a while and put back."""

from __future__ import annotations

from types import TracebackType
from typing import Any

_ABSENT = object()


class Patches:
    """Replace entries of dicts (module globals) and attributes of classes; leaving the block puts all back."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []

    def put(self, holder: dict[str, Any] | type, name: str, value: Any) -> None:
        """Set `name` in `holder`, a dict or a class, until the block ends."""
        before = (holder if isinstance(holder, dict) else vars(holder)).get(name, _ABSENT)
        self._undo.append((holder, name, before))
        _set(holder, name, value)

    def __enter__(self) -> Patches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._undo:
            _set(*self._undo.pop())


def _set(holder: dict[str, Any] | type, name: str, value: Any) -> None:
    if isinstance(holder, dict):
        if value is _ABSENT:
            del holder[name]
        else:
            holder[name] = value
    elif value is _ABSENT:
        delattr(holder, name)
    else:
        setattr(holder, name, value)
