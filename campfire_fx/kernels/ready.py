"""The kernels of this process: compiled or found in the cache when they are first asked for, and tried."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
import torch.nn.functional as F

from campfire_fx.kernels.convolve import convolve
from campfire_fx.kernels.libraries import CannotCompileError, Library, library_of
from campfire_fx.kernels.packed import Geometry, Packed

SOURCE = Path(__file__).with_name("sparse.cpp")


def kernels() -> Library:
    """Return the compiled kernels.

    Raises:
        CannotCompileError: they cannot be had on this machine.
    """
    found = _tried()
    if isinstance(found, CannotCompileError):
        raise found
    return found


@functools.cache
def _tried() -> Library | CannotCompileError:
    try:
        return library_of(SOURCE, _computes)
    except CannotCompileError as error:
        return error


@torch.no_grad()
def _computes(functions: ctypes.CDLL) -> bool:
    """Try a small convolution of whole numbers, of which every sum is exact."""
    x = torch.arange(2 * 3 * 9 * 21).remainder(7).sub(3).float().view(2, 3, 9, 21)
    weight = torch.arange(5 * 3 * 9).remainder(5).sub(2).float().view(5, 3, 3, 3)
    bias = torch.arange(5).float()
    packed = Packed.of(weight, Geometry(stride=(2, 1), padding=(1, 1)))
    got = convolve(functions, x, packed, bias, activation="relu")
    return torch.equal(got, F.conv2d(x, weight, bias, (2, 1), 1).relu())
