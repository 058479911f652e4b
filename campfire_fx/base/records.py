"""Records: plain facts that the library returns. Their repr is one line; a notebook shows the report about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sized
from pathlib import Path
from typing import Any

_MOST_FACTS = 4
_MOST_NUMBERS = 6  # of a shape that is written out
_LONGEST_TEXT, _LONGEST = 60, 200  # characters
_NAMES = ("name", "path", "operation", "node", "where")  # fields that need not be named themselves

_reports: list[Callable[[Any], str | None]] = []  # what `shown_by` was given: one function at most


class Record:
    """Base of dataclasses that users get to see: a repr of one line, with the few facts that matter.

    They are the first fields that say something, or what `_told` gives where a class has its own.
    """

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):  # dataclass would write one of its own
            cls.__repr__ = Record.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        told = _cut(", ".join(self._told()), _LONGEST)
        return f"<{type(self).__name__}: {told}>" if told else f"<{type(self).__name__}>"

    def _repr_html_(self) -> str | None:
        return html_of(self)

    def _told(self) -> Iterator[str]:
        """Yield the facts of the repr, a few words each."""
        told = (_fact(field.name, getattr(self, field.name), field.default) for field in _shown(self))
        yield from [fact for fact in told if fact][:_MOST_FACTS]


def html_of(value: Any) -> str | None:
    """Return the report about a record or model as HTML for a notebook; None where there is none."""
    return next((report(value) for report in _reports), None)


def shown_by(report: Callable[[Any], str | None]) -> None:
    """Let this function make the HTML: reports lie in a room above this one."""
    _reports[:] = [report]


def _shown(record: Any) -> Iterator[dataclasses.Field[Any]]:
    return (field for field in dataclasses.fields(record) if field.repr)


def _fact(name: str, value: object, default: object) -> str:
    """Return a field in a few words; "" where it says nothing, or more than a line has room for."""
    told, name = "", name.replace("_", " ")
    if isinstance(value, (str, Path)):
        text = _cut(str(value), _LONGEST_TEXT)
        told = text if name in _NAMES else f"{name} {text!r}" if text else ""
    elif isinstance(value, (int, float)):
        told = "" if value == default else f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
    elif isinstance(value, tuple) and len(value) <= _MOST_NUMBERS and all(isinstance(n, (int, float)) for n in value):
        told = f"{name} {value}" if value else ""
    elif isinstance(value, Sized) and not isinstance(value, Record) and len(value):
        told = f"{len(value)} {name}" if len(value) > 1 else f"1 {name.removesuffix('s')}"
    return told


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
