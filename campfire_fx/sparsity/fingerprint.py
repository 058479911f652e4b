"""Fingerprints: what tells two rules apart that their reprs do not, since they hold functions of the user's.

A function's name says little: all lambdas share one, and so do the functions that a factory makes. So its code, its
defaults, and the values that it takes from around it are looked at; its own name, comments and docstring are not.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from campfire_fx.sparsity.granularity import Granularity
from campfire_fx.sparsity.scope import Scope

_LIBRARY = "campfire_fx."
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"  # whose bytecode it is
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, type(...))


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a rule is compared by, all text.

    Attributes:
        rule: its repr.
        form: the same without the names of the user's functions.
        code: of what of the user's is in it, with the version of Python if bytecode was read.
    """

    rule: str
    form: str
    code: str

    @classmethod
    def of(cls, parts: tuple[object, ...], text: str) -> Fingerprint:
        """Look into all parts of a rule, whose reprs are in `text`."""
        names: set[str] = set()
        found = list(_Reader(names).of_library(parts))
        rule = form = re.sub(r" at 0x[0-9a-fA-F]+", "", text)
        for name in sorted(names, key=len, reverse=True):
            form = re.sub(rf"(?<!\\w){re.escape(name)}(?!\\w)", "#", form)
        digest = hashlib.sha256("\n".join(found).encode()).hexdigest()[:16]
        return cls(rule, form, f"{_PYTHON}:{digest}" if names else digest)

    def fits(self, saved: dict[str, Any]) -> bool:
        """Say whether a rule that was saved is this one, which may have functions by other names.

        One that was saved by an older version, or its functions under another version of Python, goes by its repr.
        """
        code = saved.get("code")
        versions = {c.partition(":")[0] for c in (code or "", self.code) if ":" in c}
        if code is None or len(versions) > 1:
            return bool(saved["rule"] == self.rule)
        return bool(code == self.code and saved["form"] == self.form)


class _Reader:
    """Reads values as text; `names` collects those of the user's functions."""

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.within: list[int] = []

    def of_library(self, value: object) -> Iterator[str]:
        """Yield what the repr of a value leaves out; parts of the library say by it all that they are."""
        if isinstance(value, (Granularity, Scope)):
            yield repr(value.tile)
        elif isinstance(value, (tuple, list)):
            for item in value:
                yield from self.of_library(item)
        elif is_dataclass(value) and type(value).__module__.startswith(_LIBRARY):
            for field in fields(value):
                yield from self.of_library(getattr(value, field.name))
        elif not isinstance(value, (*_PLAIN, type)) and not _is_librarys(value):
            yield self.read(value)

    def read(self, value: Any) -> str:
        """Return a value as text, without the addresses that a repr may have."""
        if isinstance(value, _PLAIN):
            return repr(value)
        if id(value) in self.within:
            return "itself"
        self.within.append(id(value))
        try:
            return self._read(value)
        finally:
            self.within.pop()

    def _read(self, value: Any) -> str:
        if isinstance(value, (tuple, list)):
            return f"{type(value).__name__}({', '.join(map(self.read, value))})"
        if isinstance(value, (set, frozenset)):
            return f"{type(value).__name__}({', '.join(sorted(map(self.read, value)))})"
        if isinstance(value, dict):
            return f"dict({', '.join(f'{self.read(k)}: {self.read(v)}' for k, v in value.items())})"
        if isinstance(value, Tensor):
            wide = value.float() if value.dtype == torch.bfloat16 else value
            return self._array(wide.numpy(force=True))
        if isinstance(value, np.ndarray):
            return self._array(value)
        return self._thing(value)

    def _array(self, array: np.ndarray[Any, Any]) -> str:
        return f"{array.dtype}{array.shape}{hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}"

    def _thing(self, value: Any) -> str:
        """Return a function, or an object by its class and what it holds, as text."""
        if isinstance(value, FunctionType):
            return f"{value.__module__}.{value.__qualname__}" if _is_librarys(value) else self._function(value)
        if isinstance(value, functools.partial):
            return f"partial({self.read(value.func)}, {self.read(value.args)}, {self.read(value.keywords)})"
        if isinstance(value, MethodType):
            return f"method({self.read(value.__func__)}, {self.read(value.__self__)})"
        if isinstance(value, (BuiltinFunctionType, type, ModuleType)) or not hasattr(type(value), "__dict__"):
            name = getattr(value, "__qualname__", getattr(value, "__name__", ""))
            return f"{getattr(value, '__module__', '')}.{name}"
        held = {field.name: getattr(value, field.name) for field in fields(value)} if is_dataclass(value) else {}
        if callable(value):
            held |= {"__call__": type(value).__call__} | getattr(value, "__dict__", {})
        return f"{type(value).__qualname__}({self.read(held)})"  # of what is neither, the class has to do

    def _function(self, function: FunctionType) -> str:
        self.names.add(function.__name__)
        around = [cell.cell_contents for cell in function.__closure__ or () if cell != type(cell)()]
        outside = {n: function.__globals__[n] for n in _globals(function.__code__) if n in function.__globals__}
        parts = (function.__defaults__, function.__kwdefaults__, around, outside)
        return f"{self._code(function.__code__, function.__doc__)} {' '.join(map(self.read, parts))}"

    def _code(self, code: CodeType, doc: str | None = None) -> str:
        constants = [None if doc is not None and c is doc else c for c in code.co_consts]
        read = [self._code(c) if isinstance(c, CodeType) else repr(c) for c in constants]
        return f"code({code.co_code.hex()}, {code.co_names}, {code.co_argcount}, {', '.join(read)})"


def _is_librarys(value: object) -> bool:
    return isinstance(value, FunctionType) and value.__module__.startswith(_LIBRARY)


def _globals(code: CodeType) -> list[str]:
    """Return the names of what a function's code reads from its module, that of inner functions too."""
    inner = [name for constant in code.co_consts if isinstance(constant, CodeType) for name in _globals(constant)]
    read = [step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    return sorted({*read, *inner})
