"""The k-th smallest by bits is the k-th smallest."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campfire_fx.base.ordering import kth_smallest

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SPECIAL = (0.0, 1e-45, 1e-38, 1.0, 1.0 + 2**-20, torch.inf, torch.nan)


@given(
    values=st.lists(st.one_of(st.sampled_from(SPECIAL), st.floats(0, 1e30)), min_size=1, max_size=40),
    dtype=st.sampled_from(DTYPES),
    data=st.data(),
)
def test_it_is_what_kthvalue_returns(values: list[float], dtype: torch.dtype, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    magnitudes = torch.tensor(values).double().to(dtype)
    torch.testing.assert_close(
        kth_smallest(magnitudes, k), magnitudes.kthvalue(k).values, rtol=0, atol=0, equal_nan=True
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_nan_with_a_sign_is_above_all(dtype: torch.dtype) -> None:
    magnitudes = torch.tensor([-torch.nan, 1.0, torch.inf, 0.0] * 8, dtype=dtype)  # as conversions may leave it
    magnitudes[0] = torch.tensor([-1]).to({2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]).view(dtype)
    for k in (1, 9, 17, 25, 32):
        expected = magnitudes.kthvalue(k).values
        torch.testing.assert_close(kth_smallest(magnitudes, k), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_of_many(dtype: torch.dtype) -> None:
    magnitudes = torch.randn(50_000, generator=torch.Generator().manual_seed(0)).abs().to(dtype)
    for k in (1, 7, 25_000, 49_999, 50_000):
        assert torch.equal(kth_smallest(magnitudes, k), magnitudes.kthvalue(k).values)
