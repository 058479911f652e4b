"""The compiled kernels."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

import campfire_fx

SOURCE = Path(campfire_fx.__file__).parent / "kernels" / "sparse.cpp"
FLAGS = ("-std=c++17", "-O3", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")


def compiled(folder: Path, *flags: str) -> ctypes.CDLL:
    """Return the kernels, compiled with further flags."""
    if (compiler := shutil.which("g++")) is None:
        pytest.skip("no C++ compiler")
    file = folder / "sparse.so"
    subprocess.run([compiler, *FLAGS, *flags, "-o", str(file), str(SOURCE)], check=True)
    return ctypes.CDLL(str(file))


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("kernels"), "-march=native")
