"""Numbers of numpy are taken wherever numbers are, and leave no trace of numpy behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from accelerator import Accelerator
from torch import nn

from campfire_fx import purify, shrink, sparsify
from campfire_fx.base.numbers import plain, plain_fields
from campfire_fx.cost import Density
from campfire_fx.sparsity import COLUMN, Admm, admm, block_fc, combined, inter_epoch, n_of_m, rigl, swat_u, window
from tests.nets.case import conv, named

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def net() -> Any:
    return named(a=conv(3, 8), act=nn.ReLU(), b=conv(8, 6), act2=nn.ReLU(), c=conv(6, 4))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.float16(0.7), 0.7),
        (np.float32(0.7), 0.7),
        (np.float64(0.1), 0.1),
        (np.float32("nan"), float("nan")),
        (np.int8(3), 3),
        (np.uint64(2**60 + 1), 2**60 + 1),
        (np.bool_(True), True),
        (0.3, 0.3),
        (None, None),
        ("0.5", "0.5"),
    ],
)
def test_plain(given: object, expected: object) -> None:
    got = plain(given)
    assert type(got) is type(expected) and repr(got) == repr(expected)


def test_plain_fields() -> None:
    @dataclass(frozen=True, slots=True)
    class Pair:
        a: float
        b: int = 2

        def __post_init__(self) -> None:
            plain_fields(self)

    assert repr(Pair(np.float32(0.1), np.int32(4))) == repr(Pair(0.1, 4))


WISHES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"sparsity": np.float32(0.7)}, {"sparsity": 0.7}),
    ({"era": (np.int64(1), np.int32(4)), "exponent": np.float16(2)}, {"era": (1, 4), "exponent": 2.0}),
    ({"regime": "window", "window_cap": np.int64(2)}, {"regime": "window", "window_cap": 2}),
    ({"regime": "swat-u", "period": np.int64(5)}, {"regime": "swat-u", "period": 5}),
    ({"regime": "rigl", "period": np.int64(5)}, {"regime": "rigl", "period": 5}),
    ({"regime": "admm-filter", "rho": np.float32(0.1)}, {"regime": "admm-filter", "rho": 0.1}),
    ({"overrides": {"b": np.float32(0.3)}}, {"overrides": {"b": 0.3}}),
    (
        {"overrides": {"b": {"sparsity": np.float16(0.3), "era": (np.int8(0), np.int8(2)), "exponent": np.int8(1)}}},
        {"overrides": {"b": {"sparsity": 0.3, "era": (0, 2), "exponent": 1}}},
    ),
    ({"regime": admm(COLUMN, update=Admm(np.float32(0.1), np.float32(1.5), np.int64(2)), steps=(np.float32(0.5), 1))},
     {"regime": admm(COLUMN, update=Admm(0.1, 1.5, 2), steps=(0.5, 1))}),
    ({"prune_fc": np.bool_(True)}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), WISHES)
def test_sparsify(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """The state, which holds every number and every rule's repr, is the same."""
    ours, theirs = (sparsify(net(), example_inputs=X, **wishes) for wishes in (given, expected))
    assert torch.equal(ours.get_extra_state(), theirs.get_extra_state())
    assert repr(ours.sparsity()) == repr(theirs.sparsity())


def test_a_sparsity_out_of_range_is_still_refused() -> None:
    from campfire_fx.base.errors import RegimeError

    with pytest.raises(RegimeError, match=r"sparsity at sparsify: 1.5 is outside \[0, 1\)"):
        sparsify(net(), sparsity=np.float32(1.5), example_inputs=X)  # type: ignore[arg-type]


def test_epochs_and_steps() -> None:
    sparse = sparsify(net(), "filter", era=(0, 3), example_inputs=X)
    sparse.epoch(np.int64(2))  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(sparse.parameters(), 0.1)
    sparse.attach(optimizer, np.int64(2))  # type: ignore[arg-type]
    assert type(sparse.sparsity().epoch) is int and sparse.sparsity().epoch == 2
    for _ in range(2):
        optimizer.step()
    assert type(sparse.sparsity().epoch) is int and sparse.sparsity().epoch == 3


def test_shrink_and_purify() -> None:
    model = net()
    with torch.no_grad():
        model.a.weight[1:6] = 0
    assert shrink(model, X, round_to=np.int64(2)).get_submodule("a").weight.shape[0] == 4  # type: ignore[arg-type]
    assert repr(purify(model, X, column=np.float32(0.1)).thresholds).count("np.") == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda number: combined(number(0.5), cap=np.int64(2)),
        lambda number: inter_epoch(number(0.5)),
        lambda _: window(np.int64(3)),
        lambda _: block_fc(np.int64(4)),
        lambda _: n_of_m(np.int64(1), np.int64(4)),
        lambda _: rigl(np.int64(7)),
        lambda _: swat_u(np.int64(7)),
        lambda number: Density(number(0.5), 1.0, number(0.25)),
        lambda number: Accelerator(rows=np.int64(8), clock_ghz=number(1.5)),
    ],
)
def test_records(make: Any) -> None:
    record = make(np.float32)
    assert "np." not in repr(record) and repr(record) == repr(make(float))
