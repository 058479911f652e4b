"""The C++ compiler at hand: the system's, or that of the package `ziglang`; and how a source is compiled with it."""

from __future__ import annotations

import importlib.util
import logging
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)

_NAMES = ("c++", "g++", "clang++")
_PATIENCE = 300  # seconds
SUFFIX = ".dll" if sys.platform == "win32" else ".so"
"""Of a shared library."""
COMMON = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
"""Flags of every attempt. Not -ffast-math: NaN and infinity at the input must come out as they do in torch."""
ATTEMPTS = (("-march=native",), ("-mcpu=native",), ())
"""Further flags, from the fastest code on: on ARM some compilers know -mcpu alone.

Not -fopenmp, which not all have, and which may bring a second pool of threads: a source is given torch's.
"""


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C++ compiler: how it is called, and the first line of what it says of itself."""

    command: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a compilation gave: the library's bytes, and the flags that the compiler took."""

    content: bytes
    flags: tuple[str, ...]


def find_compiler() -> Compiler | None:
    """Return the compiler of the variable CXX, or else c++, g++ or clang++ of the PATH, or else ziglang's."""
    named = os.environ.get("CXX", "").strip()
    commands = [tuple(shlex.split(named, posix=sys.platform != "win32"))] if named else []
    commands += [(name,) for name in _NAMES]
    if importlib.util.find_spec("ziglang") is not None:
        commands.append((sys.executable, "-m", "ziglang", "cc", "-x", "c++"))  # not c++: it would build libc++
    for command in commands:
        path = shutil.which(command[0])
        version = _run((path, *command[1:], "--version")) if path else None
        if path and version is not None and version.returncode == 0:
            lines = version.stdout.decode(errors="replace").splitlines()
            return Compiler((path, *command[1:]), lines[0].strip() if lines else "")
    return None


def compile_library(compiler: Compiler, source: Path, folder: Path) -> Compiled | str:
    """Compile a source into a shared library for this processor, or return in words why it cannot be done.

    Args:
        compiler: which one.
        source: the C++ file.
        folder: an empty folder to work in.
    """
    said = ""
    for flags in ATTEMPTS:
        target = folder / f"library{SUFFIX}"
        done = _run((*compiler.command, *COMMON, *flags, str(source), "-o", str(target)))
        if done is not None and done.returncode == 0 and target.is_file():
            return Compiled(target.read_bytes(), flags)
        said = "it took too long, or did not start" if done is None else done.stderr.decode(errors="replace").strip()
        _log.info("%s with %s: %s", shlex.join(compiler.command), " ".join(flags), said)
    lines = [line for line in said.splitlines() if "error" in line] or said.splitlines() or ["no reason given"]
    return lines[0]


def _run(command: tuple[str, ...]) -> subprocess.CompletedProcess[bytes] | None:
    """Run a command, its messages in English; None where it cannot be started, or does not end."""
    try:
        return subprocess.run(
            command, capture_output=True, check=False, timeout=_PATIENCE, env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        _log.info("%s: %s", shlex.join(command), error)
        return None
