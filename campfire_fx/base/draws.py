"""Whether code draws random numbers, and the generators as they were before it did."""

from __future__ import annotations

import functools
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from campfire_fx.base.compat import TorchDispatchMode, generators
from campfire_fx.base.location import current_line
from campfire_fx.base.patches import Patches

T = TypeVar("T")


def undrawn(action: Callable[[], T], scopes: Iterable[dict[str, Any]] = ()) -> tuple[T, str | None]:
    """Run something and put the random generators back; return what it gave, and the line that drew from them, if any.

    Generators are one for all threads. Where one has moved while other threads were running, the action is run once
    more and watched; if it draws nothing, the numbers were theirs, and the generators stay as they are.

    Args:
        action: what to run.
        scopes: namespaces of its code, in which it may know functions that draw by names of its own.
    """
    before = Generators()
    alone = threading.active_count() == 1
    try:
        result = action()
        moved = before.moved()
    finally:
        if alone:
            before.restore()
    if not moved:
        return result, None
    with _watched(scopes) as draws:
        result = action()
    if draws or alone:
        before.restore()
    return result, draws[0] if draws else ("unknown line" if alone else None)


class Generators:
    """The states of the generators of Python, numpy and torch."""

    def __init__(self) -> None:
        self._python = random.getstate()
        self._torch = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        self._numpy = sys.modules["numpy"].random.get_state() if "numpy" in sys.modules else None

    def moved(self) -> bool:
        """Return whether any is not as it was."""
        if self._python != random.getstate() or not torch.equal(self._torch, torch.get_rng_state()):
            return True
        if self._cuda and not all(map(torch.equal, self._cuda, torch.cuda.get_rng_state_all())):
            return True
        if self._numpy is None:
            return False
        now = sys.modules["numpy"].random.get_state()
        return bool(now[2] != self._numpy[2] or (now[1] != self._numpy[1]).any())

    def restore(self) -> None:
        """Put all back, where any has moved."""
        if not self.moved():
            return
        random.setstate(self._python)
        torch.set_rng_state(self._torch)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)


@contextmanager
def _watched(scopes: Iterable[dict[str, Any]]) -> Iterator[list[str]]:
    """Note the lines from which the block, in this thread, draws random numbers."""
    lines: list[str] = []
    thread = threading.get_ident()

    def noting(draw: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(draw)
        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == thread:
                lines.append(current_line())
            return draw(*args, **kwargs)

        return call

    owners = generators()
    holders = [*scopes, vars(random)]
    if "numpy" in sys.modules:
        numpy_random = sys.modules["numpy"].random
        holders.append(vars(numpy_random))
    with Patches() as patches, _TorchDraws(lines):
        for holder in holders:
            for name, value in list(holder.items()):
                owner = getattr(value, "__self__", None)
                if any(owner is generator for generator in owners):
                    patches.put(holder, name, noting(value))
        yield lines


class _TorchDraws(TorchDispatchMode):
    """Notes the lines at which torch draws, in this thread."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._lines = lines

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and not _has_no_data(args, kwargs or {}):
            self._lines.append(current_line())
        return func(*args, **(kwargs or {}))


def _has_no_data(args: Any, kwargs: dict[str, Any]) -> bool:
    device = kwargs.get("device") or next((a.device for a in args if isinstance(a, torch.Tensor)), None)
    return torch.device(device).type == "meta" if device is not None else False


def is_drawn_by_torch(target: Any) -> bool:
    """Return whether a function of torch's, or the method of this name, draws random numbers, by torch's own record."""
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    known = getattr(torch.ops.aten, name, None)
    tags = (getattr(known, overload).tags for overload in known.overloads()) if known is not None else ()
    return any(torch.Tag.nondeterministic_seeded in found for found in tags)
