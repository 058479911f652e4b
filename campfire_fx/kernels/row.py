"""A linear layer of one row: for each output the sum over its own list of weights, without tiles."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from campfire_fx.kernels.lists import Taps
from campfire_fx.kernels.packed import Packed


class RowLists(NamedTuple):
    """For each output where its weights begin, (K + 1); for each weight the channel that it reads."""

    starts: npt.NDArray[np.int32]
    channels: npt.NDArray[np.int32]

    @staticmethod
    def of(packed: Packed) -> RowLists:
        """Make them of a weight (K, C, 1, 1)."""
        taps = Taps.of(packed)
        starts = np.searchsorted(taps.filters, np.arange(packed.shape[0] + 1))
        return RowLists(starts.astype(np.int32), taps.channels.astype(np.int32))


def multiply_row(library: ctypes.CDLL, x: Tensor, packed: Packed, bias: Tensor | None, lists: RowLists) -> Tensor:
    """Return x @ weight.T + bias, float32 (1, K), of a row (1, C); on one thread."""
    y = x.new_empty((1, packed.shape[0]))
    tensors = [x.contiguous(), packed.values, None if bias is None else bias.contiguous(), y]
    row, values, added, to = (None if tensor is None else ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors)
    starts, channels = (ctypes.c_void_p(array.ctypes.data) for array in lists)
    library.campfire_multiply_row(row, starts, channels, values, added, packed.shape[0], to)
    return y
