"""The Pythons that the project supports, and where they are found on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
_PROBE = "import ensurepip, sys, venv; print('{}.{}'.format(*sys.version_info))"


def at_hand() -> dict[str, Path]:
    """Return a Python for each supported version that this machine has, lowest version first.

    A name that is no Python that runs (a shim of a version that is not selected), or that cannot make virtual
    environments, does not count.
    """
    found: dict[str, Path] = {}
    for candidate in _candidates():
        version = _version(candidate)
        if version in SUPPORTED:
            found.setdefault(version, candidate)
    return {version: found[version] for version in SUPPORTED if version in found}


def _candidates() -> Iterator[Path]:
    """Give what may be a Python: names on PATH, this one's own, and what pyenv keeps."""
    for name in (*(f"python{version}" for version in SUPPORTED), "python3"):
        for folder in os.get_exec_path():
            path = shutil.which(name, path=folder)
            if path:
                yield Path(path)
    yield Path(sys.base_prefix, "bin", "python3")
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False).stdout.strip()
        yield from sorted(Path(root, "versions").glob("3.*/bin/python"))


def _version(python: Path) -> str:
    """Return "major.minor" of a Python that runs and can make environments, else ""."""
    try:
        done = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
