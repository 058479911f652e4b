"""Files of torch.save from elsewhere, which may hold more than tensors: settings, whole models, a trainer's objects.

What a file names beyond tensors and plain values is not looked up. An inert stand-in takes its place, which keeps what
the file says that the object holds, so that nothing in the file is run.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from torch.serialization import (
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
    get_unsafe_globals_in_checkpoint,
    safe_globals,
)

from campfire_fx.base.disk.archive import Unreadable, load_archive


class Inert:
    """Stands for an object of a class, or the result of a function, that was not looked up. `named`: which."""

    named: ClassVar[str] = ""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Inert:
        """Take whatever the file gives."""
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        self.held: Any = None

    def __setstate__(self, state: Any) -> None:
        self.held = state


def _empty_dict(*_factory: Any) -> dict[Any, Any]:
    return {}


def _empty_list(*_given: Any) -> list[Any]:
    return []


_PLAIN: dict[str, Callable[..., Any]] = {"collections.defaultdict": _empty_dict, "collections.deque": _empty_list}
"""Containers that the file fills after they are made."""


def load_foreign(path: Path) -> Any:
    """Return what torch.save wrote, on the CPU, with inert stand-ins for all but tensors and plain values.

    Raises:
        Unreadable: the file is spoilt, or something else.
    """
    if _is_script(path):
        raise Unreadable("it is a TorchScript program, not a state_dict")
    with _nothing_looked_up():
        try:
            return load_archive(path)
        except Unreadable as error:
            try:
                with path.open("rb") as file:
                    unknown = get_unsafe_globals_in_checkpoint(file)
            except Exception:  # noqa: BLE001  whatever a spoilt file leads to
                raise error from None
        with safe_globals([(_PLAIN.get(name) or _stand_in(name), name) for name in unknown]):
            return load_archive(path)


@contextmanager
def _nothing_looked_up() -> Iterator[None]:
    """Forget for a while which classes this process lets torch look up: ultralytics adds those of layers for good."""
    known = get_safe_globals()
    clear_safe_globals()
    try:
        yield
    finally:
        add_safe_globals(known)


def _is_script(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError):
        return False


def _stand_in(name: str) -> type[Inert]:
    return type(name.rpartition(".")[2], (Inert,), {"named": name})


def held_state(module: Inert, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the names and tensors of the state_dict that a pickled module would have."""
    held = module.held if isinstance(module.held, dict) else {}
    passing = held.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, tensor in (held.get(kind) or {}).items():
            if isinstance(tensor, Tensor) and not (kind == "_buffers" and name in passing):
                yield f"{prefix}{name}", tensor
    for name, child in (held.get("_modules") or {}).items():
        if isinstance(child, Inert):
            yield from held_state(child, f"{prefix}{name}.")
