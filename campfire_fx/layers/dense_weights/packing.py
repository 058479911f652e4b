"""Packing: a sparse tensor as its values and one bit for each place, or an index for each value where that is less.

How much is kept depends on the data, so these are operators of their own, which torch.compile takes as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

_GATHER = 0x0102040810204080  # moves the lowest bit of byte i of a word to bit 56 + i
_REPEAT = 0x0101010101010101
_SPREAD = 0x8040201008040201 - (1 << 64)  # keeps bit i of byte i
_CHUNK = 8  # flags in a byte


def axes_in_memory(tensor: Tensor) -> list[int]:
    """Return the axes of a tensor in the order in which they lie in memory, the outermost first."""
    strides = tensor.stride()
    return sorted(range(tensor.dim()), key=lambda axis: (-strides[axis], axis))


def pack(x: Tensor, threshold: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what of a tensor reaches a threshold and is not zero, and where that is.

    Args:
        x: any shape; its elements are taken in the order in which they lie in memory.
        threshold: () the smallest magnitude; None: all but zeros.

    Returns:
        The values, (kept,), and uint8: `pack_bits` of what is kept, or the bytes of an index for each value where
        those are fewer.
    """
    return _call(_pack, x.detach(), threshold)  # no gradient goes this way


def unpack(values: Tensor, where: Tensor, shape: Sequence[int], axes: Sequence[int]) -> Tensor:
    """Undo `pack`: zero where nothing was kept.

    Args:
        values: as `pack` gave them.
        where: as `pack` gave it.
        shape: of the tensor.
        axes: as `axes_in_memory` gave them.
    """
    return _call(_unpack, values, where, shape, axes)


def pack_bits(flags: Tensor) -> Tensor:
    """Pack bools, any shape, into (ceil(n / 8),) uint8: in memory order, flag 8 j + i is bit i of byte j."""
    return _call(_pack_bits, flags)


def unpack_bits(packed: Tensor, shape: Sequence[int], axes: Sequence[int]) -> Tensor:
    """Undo `pack_bits`: bools of a shape; axes as for `unpack`."""
    return _call(_unpack_bits, packed, shape, axes)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function: as an operator where it is compiled, and else as it is, which saves a tenth of a step."""
    return (_OPERATORS[function] if torch.compiler.is_compiling() else function)(*arguments)


def _pack(x: Tensor, threshold: Tensor | None) -> tuple[Tensor, Tensor]:
    flat = _flatten(x)
    if threshold is None:
        keep = flat != 0
    else:
        limits = torch.finfo(flat.dtype)
        smallest = limits.tiny * limits.eps  # above zero: zeros are never kept
        keep = flat.abs() >= threshold.to(flat.dtype).clamp_min(smallest)
    index = _places(keep)
    wide = torch.int32 if len(keep) < 2**31 else torch.int64
    if index.numel() * wide.itemsize * 8 < len(keep):
        return flat.index_select(0, index), index.to(wide).view(torch.uint8)
    return flat.index_select(0, index), _bits(keep)


def _unpack(values: Tensor, where: Tensor, shape: Sequence[int], axes: Sequence[int]) -> Tensor:
    count = prod(shape)
    full = values.new_zeros(count)
    if len(where) == _bytes(count):
        index = _places(_flags(where, count))
    else:
        index = where.view(torch.int32 if count < 2**31 else torch.int64).long()
    return _restore(full.index_copy_(0, index, values), shape, axes)


def _pack_bits(flags: Tensor) -> Tensor:
    return _bits(_flatten(flags))


def _unpack_bits(packed: Tensor, shape: Sequence[int], axes: Sequence[int]) -> Tensor:
    return _restore(_flags(packed, prod(shape)), shape, axes)


_OPERATORS = {
    function: torch.library.custom_op(f"campfire_fx::{function.__name__[1:]}", function, mutates_args=())
    for function in (_pack, _unpack, _pack_bits, _unpack_bits)
}


@_OPERATORS[_pack].register_fake
def _(x: Tensor, _threshold: Tensor | None) -> tuple[Tensor, Tensor]:
    context = torch.library.get_ctx()
    values, where = context.new_dynamic_size(), context.new_dynamic_size()
    return x.new_empty(values), x.new_empty(where, dtype=torch.uint8)


@_OPERATORS[_unpack].register_fake
def _(values: Tensor, _where: Tensor, shape: Sequence[int], axes: Sequence[int]) -> Tensor:
    return _restore(values.new_empty(prod(shape)), shape, axes)


@_OPERATORS[_pack_bits].register_fake
def _(flags: Tensor) -> Tensor:
    return flags.new_empty(_bytes(flags.numel()), dtype=torch.uint8)


@_OPERATORS[_unpack_bits].register_fake
def _(packed: Tensor, shape: Sequence[int], axes: Sequence[int]) -> Tensor:
    return _restore(packed.new_empty(prod(shape), dtype=torch.bool), shape, axes)


def _flatten(tensor: Tensor) -> Tensor:
    """Return the elements in memory order, (n,): a view where there are no gaps between them, else a copy."""
    return tensor.permute(axes_in_memory(tensor)).reshape(-1)


def _restore(flat: Tensor, shape: Sequence[int], axes: Sequence[int]) -> Tensor:
    inverse = sorted(range(len(axes)), key=axes.__getitem__)
    return flat.view([shape[axis] for axis in axes]).permute(inverse)


def _places(flags: Tensor) -> Tensor:
    """Return where the flags of a row are up, (n,) int64."""
    if flags.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(flags.numpy()))  # a fifth of the time that torch takes
    return flags.nonzero().squeeze(1)


def _bytes(flags: int) -> int:
    return -(-flags // _CHUNK)


def _bits(flags: Tensor) -> Tensor:
    if flags.device.type == "cpu":
        return torch.from_numpy(np.packbits(flags.numpy(), bitorder="little"))  # half of the time of what follows
    missing = -len(flags) % _CHUNK
    if missing or flags.data_ptr() % _CHUNK:
        flags = torch.cat([flags, flags.new_zeros(missing)])
    return ((flags.view(torch.int64) * _GATHER) >> 56).to(torch.uint8)


def _flags(packed: Tensor, count: int) -> Tensor:
    if packed.device.type == "cpu":  # an eighth of the time of what follows
        return torch.from_numpy(np.unpackbits(packed.numpy(), count=count, bitorder="little")).view(torch.bool)
    words = (packed.to(torch.int64) * _REPEAT) & _SPREAD
    return words.view(torch.uint8)[:count] != 0
