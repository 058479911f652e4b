"""Compiled once, kept in the user's cache, and loaded: a C++ source as a library of this processor.

An entry is a library and a note beside it, which has the library's checksum. What an entry depends on is in its name:
first the source and the processor, then the compiler and its flags. So another processor or a newer source finds no
entry, and a spoilt one is noticed before it is loaded.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from campfire_fx.base.disk.cache import cache_folder
from campfire_fx.base.disk.whole import write_bytes, write_text
from campfire_fx.base.errors import CampfireError
from campfire_fx.base.hints import install_command
from campfire_fx.base.processor import processor_features
from campfire_fx.kernels.compiler import ATTEMPTS, COMMON, SUFFIX, Compiler, compile_library, find_compiler

_log = logging.getLogger(__name__)

_PATIENCE = 600  # seconds, while another process compiles

Check = Callable[[ctypes.CDLL], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """A library that is loaded: its functions, and who compiled it."""

    functions: ctypes.CDLL
    compiler: str


@dataclass(frozen=True, slots=True)
class _Note:
    """What stands beside a library in the cache."""

    sha256: str
    compiler: str
    flags: tuple[str, ...]


class CannotCompileError(CampfireError):
    """A library could not be made on this machine."""


def library_of(source: Path, check: Check) -> Library:
    """Return a source's library: from the cache, or compiled and put there.

    Where the user's cache cannot be written, or forbids to run what lies there, it is compiled for this process alone,
    in a temporary folder. Without a compiler an entry that any compiler has left is taken.

    Args:
        source: a C++ file with a plain C interface.
        check: is given the loaded library, and says whether it computes what it should.

    Raises:
        CannotCompileError: there is no compiler, or it failed, or what it made is wrong.
    """
    compiler = find_compiler()
    stem = f"{source.stem}-{_digest(source.read_bytes(), processor_features().encode())}"
    home = cache_folder().expanduser() / "libraries"
    if compiler is None:
        kept = (_kept(note.with_suffix(SUFFIX), check) for note in sorted(home.glob(f"{stem}-*.json")))
        left = next((library for library in kept if library is not None), None)
        if left is None:
            raise CannotCompileError(
                "There is no C++ compiler: none of CXX, c++, g++ and clang++ runs. "
                f"Install one, or the package ziglang: {install_command('kernels')}."
            )
        return left
    path = f"{stem}-{_digest(repr((compiler.command, compiler.version, COMMON, ATTEMPTS)).encode())}{SUFFIX}"
    said = ""
    for folder in _folders(home):
        found = _made(folder / path, source, compiler, check)
        if isinstance(found, Library):
            return found
        said = found
        _log.info("Library of %s in %s: %s", source.name, folder, found)
    raise CannotCompileError(
        f"{source.name}: {compiler.version} could not build a library that works here ({said}). "
        "Name another compiler in the variable CXX."
    )


def _folders(home: Path) -> Iterator[Path]:
    yield home
    temporary = Path(tempfile.mkdtemp(prefix="campfire_fx-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    yield temporary


def _made(path: Path, source: Path, compiler: Compiler, check: Check) -> Library | str:
    """Return the library kept at a path, which is made if it is not there or spoilt; or in words what failed."""
    kept = _kept(path, check)
    if kept is not None:
        return kept
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=_PATIENCE):
            kept = _kept(path, check)  # another process may have made it meanwhile
            return kept or _compiled(path, source, compiler, check)
    except (OSError, NotImplementedError, RuntimeError, CannotCompileError) as error:
        return str(error)


def _compiled(path: Path, source: Path, compiler: Compiler, check: Check) -> Library | str:
    with tempfile.TemporaryDirectory(prefix="campfire_fx-") as folder:
        made = compile_library(compiler, source, Path(folder))
    if isinstance(made, str):
        return made
    path.with_suffix(".json").unlink(missing_ok=True)  # a note beside another library would call it spoilt
    path.unlink(missing_ok=True)  # never written over: another process may have it loaded
    write_bytes(path, made.content, CannotCompileError)
    note = _Note(hashlib.sha256(made.content).hexdigest(), compiler.version, made.flags)
    write_text(path.with_suffix(".json"), json.dumps(asdict(note)), CannotCompileError)
    return _kept(path, check) or "it does not load, or does not compute what it should"


def _kept(path: Path, check: Check) -> Library | None:
    """Load the library at a path; None where there is none, or it is not as it was written, or not right."""
    try:
        note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if hashlib.sha256(path.read_bytes()).hexdigest() != note["sha256"]:
            _log.info("Library %s: it is damaged.", path)
            return None
        functions = ctypes.CDLL(str(path))
        found = Library(functions, str(note["compiler"]))
        return found if check(functions) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if not isinstance(error, FileNotFoundError):
            _log.info("Library %s: not used (%s).", path, error)
        return None


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]
