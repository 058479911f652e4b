"""The compiled kernels: those that the library itself makes and loads, or those that tools/check_kernels has made."""

import ctypes
import os

import pytest

from campfire_fx.kernels.libraries import CannotCompileError
from campfire_fx.kernels.ready import kernels


@pytest.fixture(scope="session")
def library() -> ctypes.CDLL:
    if path := os.environ.get("CAMPFIRE_FX_CHECKED_KERNELS"):
        return ctypes.CDLL(path)
    try:
        return kernels().functions
    except CannotCompileError as error:
        pytest.skip(str(error))
