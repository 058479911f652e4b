"""Python values written as code that needs only torch."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from campfire_fx.base.errors import ExportError


def literal(value: Any, name_of: Callable[[fx.Node], str] | None = None) -> str:
    """Return code that makes the value. Graph nodes inside it are written as `name_of` says.

    Raises:
        ExportError: the value is of a type that torch and the language do not provide.
    """
    if isinstance(value, fx.Node) and name_of is not None:
        return name_of(value)
    if isinstance(value, torch.dtype | torch.layout | torch.memory_format):
        return str(value)
    if isinstance(value, torch.device):
        return f'torch.device("{value}")'
    if isinstance(value, slice):
        return f"slice({', '.join(literal(part, name_of) for part in (value.start, value.stop, value.step))})"
    if isinstance(value, tuple | list | dict | set):
        return _collection(value, name_of)
    if isinstance(value, float | complex) and not isinstance(value, bool):
        return _number(value)
    if value is None or isinstance(value, bool | range | bytes):
        return repr(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, str):
        return _string(value)
    if value is Ellipsis:
        return "..."
    if any(value is kind for kind in (bool, int, float, complex, str, tuple, list)):
        return str(value.__name__)
    raise ExportError(
        f"no torch-only code for the value {value!r} of type {type(value).__name__}: only plain Python and torch "
        "values can be written. Export to .onnx or .pt2 instead."
    )


def index(value: Any, name_of: Callable[[fx.Node], str] | None = None) -> str:
    """Return what stands in `x[...]` or after `return`: slices as `a:b`, a tuple without its parentheses."""
    if isinstance(value, slice):
        parts = ["" if part is None else literal(part, name_of) for part in (value.start, value.stop, value.step)]
        return ":".join(parts if parts[2] else parts[:2])
    if isinstance(value, tuple) and value:
        return ", ".join(index(part, name_of) for part in value) + ("," if len(value) == 1 else "")
    return literal(value, name_of)


def _collection(value: Any, name_of: Callable[[fx.Node], str] | None) -> str:
    if isinstance(value, dict):
        pairs = (f"{literal(key, name_of)}: {literal(part, name_of)}" for key, part in value.items())
        return "{" + ", ".join(pairs) + "}"
    parts = [literal(part, name_of) for part in value]
    if isinstance(value, list):
        return f"[{', '.join(parts)}]"
    if isinstance(value, set):
        return "{" + ", ".join(sorted(parts)) + "}" if parts else "set()"
    return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"


def _number(value: float | complex) -> str:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f'float("{value}")'
    return repr(value) if cmath.isfinite(value) else f"complex({_number(value.real)}, {_number(value.imag)})"


def _string(value: str) -> str:
    """Return the string in double quotes where that needs no escape."""
    text = str.__repr__(value)
    return f'"{text[1:-1]}"' if text.startswith("'") and '"' not in text else text
