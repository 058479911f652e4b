"""Call the compiled kernels on tensors."""

from __future__ import annotations

import ctypes
import functools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from campfire_fx.base.errors import KernelError
from campfire_fx.kernels.lists import Lists
from campfire_fx.kernels.packed import Packed
from campfire_fx.kernels.row import RowLists, multiply_row
from campfire_fx.kernels.work import Plan, Shape, Work, lists_for, tile_for

T = TypeVar("T")

Activation = Literal["", "relu", "relu6", "hardswish"]
ACTIVATIONS: tuple[Activation, ...] = ("", "relu", "relu6", "hardswish")
"""What can be computed at the end of a convolution; the number of each is its place."""


class Operands(NamedTuple):
    """The tensors of a call."""

    x: Tensor
    y: Tensor
    bias: Tensor | None
    residual: Tensor | None
    activation: Activation


_ENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "": lambda y: y,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
}
_NUMBERS = {activation: number for number, activation in enumerate(ACTIVATIONS)}
_KEPT = 8  # image sizes, and shapes of tiles, whose plans a weight keeps
_LINE = 64  # bytes


def convolve(
    library: ctypes.CDLL,
    x: Tensor,
    packed: Packed,
    bias: Tensor | None = None,
    *,
    residual: Tensor | None = None,
    activation: Activation = "",
    out: Tensor | None = None,
    threads: int | None = None,
) -> Tensor:
    """Return activation(convolution(x) + bias + residual), float32 (N, K, H', W'), contiguous.

    Zeros of the weight are not multiplied: where the input holds NaN or infinity they give nothing, and torch's
    convolution gives NaN. Everything else is torch's result up to the order of the sums.

    Args:
        library: the compiled sparse.cpp.
        x: float32 (N, C, H, W) on the CPU, with any strides.
        packed: the weight.
        bias: (K,), a folded norm's, too.
        residual: (N, K, H', W'), added before the activation.
        activation: what is computed last.
        out: where to write, contiguous; it may be the residual, and shares no memory with x.
        threads: at most so many; as torch's, if not given.

    Raises:
        KernelError: the tensors do not fit.
    """
    known, threads = _known(packed), threads or torch.get_num_threads()
    key = (id(library), x.shape, x.stride(), threads)
    planned = known.calls.get(key) or _remember(known.calls, key, _convolution(library, x, packed, threads))
    y = x.new_empty(planned.output) if out is None else out
    _check(planned, Operands(x, y, bias, residual, activation))
    if out is not None and not y.is_contiguous():
        raise KernelError("Cannot compute a convolution: `out` is not contiguous. Give memory without gaps.")
    _run(library, planned.plan, Operands(x, y, bias, residual, activation))
    return y


def multiply(
    library: ctypes.CDLL,
    x: Tensor,
    packed: Packed,
    bias: Tensor | None = None,
    *,
    activation: Activation = "",
    threads: int | None = None,
) -> Tensor:
    """Return activation(x @ weight.T + bias), float32 (N, K), of a weight (K, C, 1, 1): a linear layer.

    Args:
        library: the compiled sparse.cpp.
        x: float32 (N, C) on the CPU, with any strides.
        packed: the weight.
        bias: (K,).
        activation: what is computed last.
        threads: at most so many; as torch's, if not given.

    Raises:
        KernelError: the tensors do not fit.
    """
    known, threads = _known(packed), threads or torch.get_num_threads()
    fits = _is_plain(x) and packed.shape[2:] == (1, 1) and x.shape == (1, packed.channels)
    if fits and (bias is None or (_is_plain(bias) and bias.shape == packed.shape[:1])):
        known.row = known.row or RowLists.of(packed)
        return _ENDS[activation](multiply_row(library, x, packed, bias, known.row))
    key = (id(library), x.shape, x.stride(), threads)
    planned = known.calls.get(key) or _remember(known.calls, key, _product(library, x, packed, threads))
    given = Operands(x, x.new_empty(planned.output), bias, None, activation)
    _check(planned, given)
    _run(library, planned.plan, given)
    return given.y


@dataclass(frozen=True, slots=True)
class _Planned:
    """What was worked out for calls of one shape: that of the output, and the plan; None: there is nothing to do."""

    input: tuple[int, ...]
    output: tuple[int, ...]
    plan: Plan | None


def _convolution(library: ctypes.CDLL, x: Tensor, packed: Packed, threads: int) -> _Planned:
    """Work a convolution out: one of single pixels as images of one row."""
    if x.dim() != 4 or x.shape[1] != packed.channels:
        raise KernelError(
            f"Cannot compute a convolution: the input is {tuple(x.shape)}. Give (N, {packed.channels}, H, W)."
        )
    images, _, *size = x.shape
    height, width = packed.geometry.output_size((size[0], size[1]), packed.shape[2:])
    if min(height, width) < 1:
        raise KernelError(
            f"Cannot compute a convolution: its kernel is larger than the padded input, {tuple(x.shape)}. "
            "Give larger images."
        )
    filters, steps, in_size, out_size = packed.shape[0], x.stride(), (size[0], size[1]), (height, width)
    out_steps = (filters * height * width, height * width, width, 1)
    pointwise = packed.shape[2:] == (1, 1) and packed.geometry[:2] == ((1, 1), (0, 0))
    if pointwise and (steps[2] == size[1] * steps[3] or size[0] == 1):
        in_size = out_size = (1, size[0] * size[1])
    shape = Shape(images, in_size, out_size, steps, out_steps, threads)
    return _planned(library, x, packed, (images, filters, height, width), shape)


def _product(library: ctypes.CDLL, x: Tensor, packed: Packed, threads: int) -> _Planned:
    """Work a linear layer out: its rows as the columns of one image."""
    if x.dim() != 2 or x.shape[1] != packed.channels or packed.shape[2:] != (1, 1):
        raise KernelError(f"Cannot multiply: the input is {tuple(x.shape)}. Give (N, {packed.channels}).")
    rows, filters = len(x), packed.shape[0]
    steps, out_steps = (0, x.stride(1), 0, x.stride(0)), (0, 1, 0, filters)
    return _planned(library, x, packed, (rows, filters), Shape(1, (1, rows), (1, rows), steps, out_steps, threads))


def _planned(library: ctypes.CDLL, x: Tensor, packed: Packed, output: tuple[int, ...], shape: Shape) -> _Planned:
    if not math.prod(output):
        return _Planned(tuple(x.shape), output, None)
    lists, tile = _known(packed).lists, tile_for(packed, shape, library)
    found = lists.get(tile) or _remember(lists, tile, lists_for(packed, tile))
    return _Planned(tuple(x.shape), output, Plan.of(packed, shape, tile, found))


def _check(planned: _Planned, given: Operands) -> None:
    """Raise if a tensor is not what the kernels read."""
    x, y, bias, residual, _ = given
    if (
        _is_plain(x)
        and (bias is None or (_is_plain(bias) and bias.shape == planned.output[1:2]))
        and (residual is None or (_is_plain(residual) and residual.shape == planned.output))
        and _is_plain(y)
        and y.shape == planned.output
    ):
        return
    wanted = {"input": planned.input, "bias": planned.output[1:2], "residual": planned.output, "out": planned.output}
    for (name, shape), tensor in zip(wanted.items(), (x, bias, residual, y), strict=True):
        if tensor is not None and not _is_plain(tensor):
            raise KernelError(
                f"Cannot compute a convolution: the {name} is {tensor.dtype} on {tensor.device}. "
                "These kernels are the CPU's, for float32: convert it, or compute with torch."
            )
        if tensor is not None and tensor.shape != shape:
            raise KernelError(f"Cannot compute a convolution: the {name} is {tuple(tensor.shape)}. Give {shape}.")


def _is_plain(tensor: Tensor) -> bool:
    return tensor.dtype is torch.float32 and tensor.is_cpu


def _run(library: ctypes.CDLL, plan: Plan | None, given: Operands) -> None:
    """Compute y."""
    if plan is None:
        return
    x, y, bias, residual, activation = given
    bias, residual = (None if tensor is None else tensor.contiguous() for tensor in (bias, residual))
    work, scratch = Work.from_buffer_copy(plan.work), _scratch(plan.scratch)
    work.x, work.y = x.data_ptr(), y.data_ptr()
    work.bias = None if bias is None else bias.data_ptr()
    work.residual = None if residual is None else residual.data_ptr()
    work.scratch = -(-scratch.data_ptr() // _LINE) * _LINE
    work.activation = _NUMBERS[activation]
    work.parallel = _threads_of_torch()
    library.campfire_convolve(ctypes.byref(work))


class _Known:
    """What was worked out for one weight, of the last calls."""

    __slots__ = ("calls", "lists", "row", "version")

    def __init__(self, version: object) -> None:
        self.version = version
        self.lists: dict[Any, Lists] = {}
        self.calls: dict[Any, _Planned] = {}
        self.row: RowLists | None = None


_KNOWN = WeakIdKeyDictionary()  # of the values of a packed weight: those that are in use


def _known(packed: Packed) -> _Known:
    """Return what is known of a packed weight; nothing, where someone has written into it since."""
    version = (packed.geometry, packed.shape, _version(packed.values), _version(packed.positions))
    known = _KNOWN.get(packed.values)
    if known is None or known.version != version:
        known = _KNOWN[packed.values] = _Known(version)
    return known


def _version(tensor: Tensor) -> tuple[int, int]:
    """Return what changes when someone writes into a tensor or gives it other memory."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def _remember(entries: dict[Any, T], key: object, value: T) -> T:
    """Keep a value, and forget the eldest where there are many."""
    while len(entries) >= _KEPT:
        entries.pop(next(iter(entries)), None)
    entries[key] = value
    return value


_MEMORY = threading.local()


def _scratch(floats: int) -> Tensor:
    """Return memory of this thread, the same one for its next call."""
    held: Tensor | None = getattr(_MEMORY, "held", None)
    if held is None or held.numel() < floats:
        held = _MEMORY.held = torch.empty(floats)
    return held


@functools.cache
def _threads_of_torch() -> int | None:
    """Return the address of the function that runs a loop on the threads of the OpenMP library that torch uses.

    A second library would keep threads of its own, and both would wait for work on the same cores.
    """
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
    except (AttributeError, OSError, TypeError):
        return None
