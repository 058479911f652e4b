"""Packing: what comes out is what went in, and how many bytes it took."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from campfire_fx.layers.dense_weights.packing import axes_in_memory, pack, pack_bits, unpack, unpack_bits


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_flags_come_back_from_one_bit_each(flags: list[bool]) -> None:
    packed = pack_bits(torch.tensor(flags))
    assert packed.dtype == torch.uint8 and len(packed) == -(-len(flags) // 8)
    assert unpack_bits(packed, [len(flags)], [0]).tolist() == flags


def test_flag_8j_plus_i_is_bit_i_of_byte_j() -> None:
    assert pack_bits(torch.arange(20) % 9 == 0).tolist() == [0b00000001, 0b00000010, 0b00000100]


@given(st.integers(1, 300), st.floats(0, 4), st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
def test_values_come_back_where_they_were(size: int, threshold: float, dtype: torch.dtype) -> None:
    torch.manual_seed(size)
    x, limit = torch.randn(size).to(dtype), torch.tensor(threshold, dtype=dtype)
    values, where = pack(x, limit)
    keep = x.abs() >= limit
    assert values.dtype == dtype and len(values) == int(keep.sum())
    assert torch.equal(unpack(values, where, x.shape, [0]), x * keep)


@pytest.mark.parametrize(("kept", "size"), [(31, 4 * 31), (32, 1024 // 8)])
def test_indices_where_they_take_less_than_bits(kept: int, size: int) -> None:
    x = (torch.arange(1024) < kept).float()
    values, where = pack(x, None)
    assert where.dtype == torch.uint8 and where.nbytes == size
    assert torch.equal(unpack(values, where, [1024], [0]), x)


def test_zeros_are_not_kept_by_a_threshold_of_zero() -> None:
    values, _ = pack(torch.tensor([0.0, -1.0, -0.0, 2.0]), torch.tensor(0.0))
    assert values.tolist() == [-1, 2]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(2, 3, 4, 5),
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(4, 5).T,
        torch.randn(2, 6, 8)[:, ::2],
        torch.randn(1, 3, 1, 2).expand(4, 3, 2, 2),
        torch.tensor(3.0),
        torch.empty(0, 3),
    ],
    ids=["contiguous", "channels last", "transposed", "strided", "expanded", "scalar", "empty"],
)
def test_any_layout_comes_back(tensor: Tensor) -> None:
    axes = axes_in_memory(tensor)
    assert torch.equal(unpack(*pack(tensor, None), tensor.shape, axes), tensor)
    flags = tensor > 0
    assert torch.equal(unpack_bits(pack_bits(flags), flags.shape, axes_in_memory(flags)), flags)


def test_a_tensor_without_gaps_gets_its_strides_back() -> None:
    tensor = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert unpack(*pack(tensor, None), tensor.shape, axes_in_memory(tensor)).stride() == tensor.stride()


def test_the_operators_are_what_they_tell_a_compiler() -> None:
    x, limit = torch.randn(4, 6), torch.tensor(0.5)
    ops = torch.ops.campfire_fx
    values, where = pack(x, limit)
    for op, arguments in {
        ops.pack: (x, limit),
        ops.unpack: (values, where, [4, 6], [0, 1]),
        ops.pack_bits: (x > 0,),
        ops.unpack_bits: (pack_bits(x > 0), [4, 6], [0, 1]),
    }.items():
        result = torch.library.opcheck(op.default, arguments)
        assert set(result.values()) == {"SUCCESS"}
