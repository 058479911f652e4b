"""Numbers that a module's code changes as it runs: a graph that computes with one would keep its first value."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NoReturn

from torch import nn

from campfire_fx.base.errors import CaptureError
from campfire_fx.base.location import current_line

_NUMBERS = frozenset({int, float, bool})


class Counters:
    """Which attributes, of which modules, a trace has seen change; and what they were at first."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, str], tuple[nn.Module, Any]] = {}

    def note(self, module: nn.Module, name: str, value: Any) -> None:
        """Note that code sets an attribute."""
        before = module.__dict__.get(name)
        if type(value) in _NUMBERS and type(before) in _NUMBERS and name != "training" and value != before:
            self._first.setdefault((id(module), name), (module, before))

    def __bool__(self) -> bool:
        return bool(self._first)

    def put_in_place(self, paths: dict[int, str]) -> None:
        """Set each to a stand-in that can be counted on with, and that refuses every other use."""
        for (key, name), (module, before) in self._first.items():
            path = paths.get(key)
            module.__dict__[name] = Moving(before, f"{path}.{name}" if path else name, before)


class Moving:
    """A number that changes from run to run: arithmetic with plain numbers gives another, all else raises."""

    def __init__(self, value: Any, name: str, first: Any) -> None:
        self._value = value
        self._name = name
        self._first = first

    def refuse(self, *_: Any) -> NoReturn:
        """Raise CaptureError with the line that is running."""
        raise CaptureError(
            f"Counter at {current_line()}: forward() computes with {self._name}, which changes from run to run "
            f"({self._first!r} at first). Keep it in a buffer and compute with that, or trace the parts of the model."
        )

    def __repr__(self) -> str:
        return repr(self._value)


def _arithmetic(function: Callable[[Any, Any], Any], *, swapped: bool = False) -> Callable[[Moving, Any], Moving]:
    def method(self: Moving, other: Any) -> Moving:
        other = other._value if isinstance(other, Moving) else other
        if type(other) not in _NUMBERS:
            self.refuse()
        value = function(other, self._value) if swapped else function(self._value, other)
        return Moving(value, self._name, self._first)

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    _function = getattr(operator, _name)
    setattr(Moving, f"__{_name}__", _arithmetic(_function))
    setattr(Moving, f"__r{_name}__", _arithmetic(_function, swapped=True))
for _name in ("bool", "int", "float", "index", "eq", "ne", "lt", "le", "gt", "ge", "hash", "round", "neg", "abs"):
    setattr(Moving, f"__{_name}__", Moving.refuse)
