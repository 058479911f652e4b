"""Names that modules may have and Python's attributes may not, in the code that torch.fx generates."""

from __future__ import annotations

import contextlib
import keyword
from collections.abc import Iterator

from campfire_fx.base.compat import format_target, set_format_target

_TORCHS = format_target


def is_attribute(name: str) -> bool:
    """Say whether `x.name` is an expression, and means what it says inside a class, too."""
    mangled = name.startswith("__") and not name.endswith("__")
    return name.isidentifier() and not keyword.iskeyword(name) and not mangled


@contextlib.contextmanager
def any_name() -> Iterator[None]:
    """While this lasts, generated code reads a submodule of any name: torch.fx writes `self.class` as it stands.

    For names that torch.fx writes correctly nothing changes, so that other threads need not know.
    """
    set_format_target(_format_target)
    try:
        yield
    finally:
        set_format_target(_TORCHS)


def _format_target(base: str, target: str) -> str:
    for name in target.split("."):
        base = f"{base}.{name}" if is_attribute(name) else f"getattr({base}, {name!r})"
    return base
