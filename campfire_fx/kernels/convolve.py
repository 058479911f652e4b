"""Call the compiled kernels on tensors."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from campfire_fx.base.errors import KernelError
from campfire_fx.kernels.lists import Lists
from campfire_fx.kernels.packed import Packed
from campfire_fx.kernels.tiles import Tile
from campfire_fx.kernels.work import Plan, Shape, Work, lists_for, tile_for

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
    if x.dim() != 4 or x.shape[1] != packed.channels:
        raise KernelError(
            f"Cannot compute a convolution: the input is {tuple(x.shape)}. Give (N, {packed.channels}, H, W)."
        )
    size = packed.geometry.output_size((x.shape[2], x.shape[3]), packed.shape[2:])
    if min(size) < 1:
        raise KernelError(
            f"Cannot compute a convolution: its kernel is larger than the padded input, {tuple(x.shape)}. "
            "Give larger images."
        )
    given = (x.shape[0], packed.shape[0], *size)
    y = x.new_empty(given) if out is None else out
    _check({"input": (x, tuple(x.shape)), "bias": (bias, (packed.shape[0],)), "out": (y, given)})
    _check({"residual": (residual, given)})
    if not y.is_contiguous():
        raise KernelError("Cannot compute a convolution: `out` is not contiguous. Give memory without gaps.")
    shape = _shape(x, y, packed, threads or torch.get_num_threads())
    _run(library, packed, shape, Operands(x, y, bias, residual, activation))
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
    if x.dim() != 2 or x.shape[1] != packed.channels or packed.shape[2:] != (1, 1):
        raise KernelError(f"Cannot multiply: the input is {tuple(x.shape)}. Give (N, {packed.channels}).")
    y = x.new_empty((x.shape[0], packed.shape[0]))
    _check({"input": (x, tuple(x.shape)), "bias": (bias, (packed.shape[0],))})
    images = len(x)  # as the columns of one image
    x_strides, y_strides = (0, x.stride(1), 0, x.stride(0)), (0, 1, 0, y.stride(0))
    shape = Shape(1, (1, images), (1, images), x_strides, y_strides, threads or torch.get_num_threads())
    _run(library, packed, shape, Operands(x, y, bias, None, activation))
    return y


def _check(tensors: dict[str, tuple[Tensor | None, Sequence[int]]]) -> None:
    """Raise if a tensor is not what the kernels read."""
    for name, (tensor, shape) in tensors.items():
        if tensor is None:
            continue
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise KernelError(
                f"Cannot compute a convolution: the {name} is {tensor.dtype} on {tensor.device}. "
                "These kernels are the CPU's, for float32: convert it, or compute with torch."
            )
        if tuple(tensor.shape) != tuple(shape):
            raise KernelError(
                f"Cannot compute a convolution: the {name} is {tuple(tensor.shape)}. Give {tuple(shape)}."
            )


def _shape(x: Tensor, y: Tensor, packed: Packed, threads: int) -> Shape:
    """Return what a call computes: of a pixel-wise convolution every image as one row."""
    size, out_size = (x.shape[2], x.shape[3]), (y.shape[2], y.shape[3])
    x_strides, y_strides = x.stride(), y.stride()
    pointwise = packed.shape[2:] == (1, 1) and packed.geometry[:2] == ((1, 1), (0, 0))
    if pointwise and (x_strides[2] == size[1] * x_strides[3] or size[0] == 1):
        size = out_size = (1, size[0] * size[1])
    return Shape(x.shape[0], size, out_size, x_strides, y_strides, threads)


def _run(library: ctypes.CDLL, packed: Packed, shape: Shape, given: Operands) -> None:
    """Compute y."""
    if not given.y.numel():
        return
    plan = _plan(library, packed, shape)
    work = Work.from_buffer_copy(plan.work)
    scratch = _scratch(plan.scratch)
    bias, residual = (None if tensor is None else tensor.contiguous() for tensor in (given.bias, given.residual))
    work.x, work.y = given.x.data_ptr(), given.y.data_ptr()
    work.bias = None if bias is None else bias.data_ptr()
    work.residual = None if residual is None else residual.data_ptr()
    work.scratch = -(-scratch.data_ptr() // _LINE) * _LINE
    work.activation = ACTIVATIONS.index(given.activation)
    work.parallel = _threads_of_torch()
    library.campfire_convolve(ctypes.byref(work))


class _Plans:
    """What was worked out for one weight, of the last calls."""

    __slots__ = ("lists", "plans", "version")

    def __init__(self, version: object) -> None:
        self.version = version
        self.lists: dict[Tile, Lists] = {}
        self.plans: dict[Any, Plan] = {}


_KNOWN = WeakIdKeyDictionary()  # of the values of a packed weight: those that are in use


def _plan(library: ctypes.CDLL, packed: Packed, shape: Shape) -> Plan:
    """Return the plan of a call, from memory where one like it came before."""
    version = (packed.geometry, packed.shape, *(_version(tensor) for tensor in (packed.values, packed.positions)))
    known = _KNOWN.get(packed.values)
    if known is None or known.version != version:
        known = _KNOWN[packed.values] = _Plans(version)
    key = (id(library), shape)
    if key not in known.plans:
        tile = tile_for(packed, shape, library)
        if tile not in known.lists:
            _forget(known.lists)
            known.lists[tile] = lists_for(packed, tile)
        _forget(known.plans)
        known.plans[key] = Plan.of(packed, shape, tile, known.lists[tile])
    return known.plans[key]


def _version(tensor: Tensor) -> tuple[int, int]:
    """Return what changes when someone writes into a tensor or gives it other memory."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def _forget(entries: dict[Any, Any]) -> None:
    """Make room for one more."""
    while len(entries) >= _KEPT:
        entries.pop(next(iter(entries)), None)


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
