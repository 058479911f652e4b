"""Values come back as they were from the code that is written for them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campfire_fx.base.errors import ExportError
from campfire_fx.export.literals import index, literal

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
values = st.recursive(
    plain | st.builds(slice, st.none() | st.integers(), st.integers()),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(values)
def test_any_plain_value_is_written_so_that_it_reads_back(value: Any) -> None:
    assert eval(literal(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        torch.float16, torch.channels_last, torch.strided, torch.device("cuda:1"), torch.Size([2, 3]), {1, 2}, set(),
        1 + 2j, complex(math.inf, 0), range(2, 9, 3), Ellipsis, float, bool,
    ],
)  # fmt: skip
def test_values_of_torch_and_the_language(value: Any) -> None:
    assert eval(literal(value), {"torch": torch}) == value


def test_not_a_number() -> None:
    assert math.isnan(eval(literal(math.nan)))


class _Probe:
    def __getitem__(self, key: Any) -> Any:
        return key


slices = st.builds(slice, *[st.none() | st.integers()] * 3)


@given(st.integers() | slices | st.tuples(slices) | st.tuples(slices, st.integers(), st.none() | st.just(...)))
def test_an_index_reads_back(value: Any) -> None:
    assert eval(f"probe[{index(value)}]", {"probe": _Probe()}) == value


def test_a_value_of_an_unknown_type_is_refused_by_its_type() -> None:
    with pytest.raises(ExportError, match="of type Tensor"):
        literal(torch.zeros(2))
