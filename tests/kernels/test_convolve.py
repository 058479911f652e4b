"""The kernels against torch in float64, over random shapes, zeros and images."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from campfire_fx.base.errors import KernelError
from campfire_fx.kernels import tiles, work
from campfire_fx.kernels.compiler import COMMON, find_compiler
from campfire_fx.kernels.convolve import convolve, multiply
from campfire_fx.kernels.packed import Geometry, Packed
from campfire_fx.kernels.ready import SOURCE

ENDS = {"": lambda x: x, "relu": F.relu, "relu6": F.relu6, "hardswish": F.hardswish}


class Case(NamedTuple):
    x: Tensor
    weight: Tensor
    geometry: Geometry
    bias: Tensor | None
    residual: Tensor | None
    activation: str
    threads: int

    def expected(self) -> Tensor:
        bias = None if self.bias is None else self.bias.double()
        y = F.conv2d(self.x.double(), self.weight.double(), bias, *self.geometry)
        return ENDS[self.activation](y if self.residual is None else y + self.residual)

    def computed(self, library) -> Tensor:
        packed = Packed.of(self.weight, self.geometry)
        options = {"residual": self.residual, "activation": self.activation, "threads": self.threads}
        return convolve(library, self.x, packed, self.bias, **options)


@st.composite
def cases(draw) -> Case:
    pairs = [st.tuples(st.integers(least, 3), st.integers(least, 3)) for least in (1, 0, 1)]
    stride, padding, dilation = (draw(pair) for pair in pairs)
    groups, kernel = draw(st.sampled_from([1, 1, 2, 5])), draw(st.tuples(*2 * [st.sampled_from([1, 2, 3, 5, 7])]))
    filters, channels = groups * draw(st.integers(1, 9)), draw(st.integers(1, 9))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(dilation, kernel, padding, strict=True)]
    size = [low + draw(st.sampled_from([0, 1, 3, 6, 13, 14, 27, 40])) for low in least]
    torch.manual_seed(draw(st.integers(0, 2**16)))
    weight = torch.randn(filters, channels, *kernel)
    weight *= torch.rand(weight.shape) < draw(st.sampled_from([0.0, 0.02, 0.2, 0.7, 1.0]))
    weight[torch.rand(filters) < 0.2] = 0
    weight[:, torch.rand(channels) < 0.2] = 0
    x = torch.randn(draw(st.integers(1, 5)), channels * groups, *size)
    if draw(st.booleans()):
        x = x.to(memory_format=torch.channels_last)
    geometry = Geometry(stride, padding, dilation, groups)
    out = (len(x), filters, *geometry.output_size(tuple(size), kernel))
    bias = torch.randn(filters) if draw(st.booleans()) else None
    residual = torch.randn(out) if draw(st.booleans()) else None
    return Case(x, weight, geometry, bias, residual, draw(st.sampled_from(list(ENDS))), draw(st.integers(1, 2)))


def assert_equal(case: Case, computed: Tensor) -> None:
    bound = F.conv2d(case.x.abs().double(), case.weight.abs().double(), None, *case.geometry) + 20
    assert ((computed - case.expected()).abs() <= 1e-6 * bound).all()


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_equals_torch_up_to_rounding(library, case: Case) -> None:
    assert_equal(case, case.computed(library))


@settings(max_examples=70, deadline=None)
@given(case=cases(), data=st.data(), memory=st.sampled_from([1, 500, 6144]))
def test_equals_torch_whatever_the_tile(library, case: Case, data: st.DataObject, memory: int) -> None:
    widest = ctypes.c_int32.in_dll(library, "campfire_lanes").value
    every = [*tiles.every_tile(case.expected().shape[2:], {widest, max(4, widest // 2)}, 16)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "_MEMORY", memory)
        patch.setattr("campfire_fx.kernels.convolve.tile_for", lambda *_: data.draw(st.sampled_from(every)))
        assert_equal(case, case.computed(library))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86")
@pytest.mark.parametrize("machine", ["-march=x86-64-v3", "-march=x86-64"])
def test_narrower_vectors_give_the_same(library, tmp_path: Path, machine: str) -> None:
    if (compiler := find_compiler()) is None:
        pytest.skip("no C++ compiler")
    target = tmp_path / "sparse.so"
    command = (*compiler.command, *COMMON, "-Wall", "-Wextra", "-Werror", machine, str(SOURCE), "-o", str(target))
    subprocess.run(command, check=True)
    narrow = ctypes.CDLL(str(target))
    if machine == "-march=x86-64-v3" and ctypes.c_int32.in_dll(library, "campfire_lanes").value < 8:
        pytest.skip("this processor has no AVX2")
    assert ctypes.c_int32.in_dll(narrow, "campfire_lanes").value == {"-march=x86-64-v3": 8, "-march=x86-64": 4}[machine]

    @settings(max_examples=15, deadline=None)
    @given(case=cases())
    def check(case: Case) -> None:
        assert_equal(case, case.computed(narrow))

    check()


@settings(max_examples=40, deadline=None)
@given(case=cases(), value=st.sampled_from([float("nan"), float("inf"), -float("inf")]))
def test_nan_and_infinity_go_where_weights_read_them(library, case: Case, value: float) -> None:
    torch.manual_seed(0)
    case.x[torch.rand(case.x.shape) < 0.1] = value
    # torch multiplies zeros, too: compare with what is left when nothing is read through them.
    reached = torch.zeros_like(case.expected(), dtype=torch.bool)
    parts = F.unfold(
        case.x.isfinite().logical_not().float(), case.weight.shape[2:], case.geometry.dilation, case.geometry.padding,
        case.geometry.stride,
    )  # fmt: skip
    weight = (case.weight != 0).float()
    rows = parts.view(len(case.x), case.geometry.groups, -1, parts.shape[-1])
    reads = weight.view(case.geometry.groups, -1, rows.shape[2]) @ rows
    reached = reads.reshape(reached.shape) > 0
    computed, expected = case.computed(library), case.expected().float()
    clean = Case(case.x.nan_to_num(0, 0, 0), *case[1:]).expected().float()
    assert torch.allclose(computed[~reached], clean[~reached], 1e-4, 1e-4)
    # Where several meet, infinities of both signs give NaN in one order as in the other.
    plain = reached & (case.weight != 0).all()
    assert torch.equal(computed[plain].isnan(), expected[plain].isnan())
    if case.activation == "":
        assert not computed[reached].isfinite().any()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 40), st.integers(1, 40), st.integers(1, 2))
@example(1, 40, 3, 1)
def test_linear_equals_torch(library, images: int, channels: int, filters: int, threads: int) -> None:
    torch.manual_seed(images)
    x, bias = torch.randn(images, channels), torch.randn(filters)
    weight = torch.randn(filters, channels) * (torch.rand(filters, channels) < 0.3)
    packed = Packed.of(weight[:, :, None, None], Geometry())
    expected = F.relu(F.linear(x.double(), weight.double(), bias.double()))
    computed = multiply(library, x, packed, bias, activation="relu", threads=threads)
    assert torch.allclose(computed.double(), expected, 1e-5, 1e-5)


def test_a_weight_written_anew_is_read_anew(library) -> None:
    packed, x = Packed.of(torch.ones(1, 1, 1, 1), Geometry()), torch.ones(1, 1, 2, 2)
    assert convolve(library, x, packed).unique().tolist() == [1]
    packed.values.fill_(3)
    assert convolve(library, x, packed).unique().tolist() == [3]


def test_packed_gives_the_weight_back() -> None:
    weight = torch.randn(6, 2, 3, 1).relu()
    packed = Packed.of(weight, Geometry(groups=3))
    assert torch.equal(packed.dense(), weight) and packed.channels == 6


X, GAPS = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, 2).mT
REFUSED = [
    (torch.zeros(1, 3, 4, 4), {}, r"Cannot compute .*: the input is \(1, 3, 4, 4\). Give \(N, 2, H, W\)."),
    (X.half(), {}, "the input is torch.float16 on cpu. These kernels are the CPU's"),
    (torch.zeros(1, 2, 1, 1), {}, "its kernel is larger than the padded input"),
    (X, {"residual": torch.zeros(1, 4, 9, 9)}, r"the residual is \(1, 4, 9, 9\). Give \(1, 4, 2, 4\)"),
    (X, {"out": GAPS}, "`out` is not contiguous"),
]


@pytest.mark.parametrize(("x", "options", "sentence"), REFUSED)
def test_tensors_that_do_not_fit(library, x: Tensor, options: dict, sentence: str) -> None:
    packed = Packed.of(torch.ones(4, 2, 3, 1), Geometry())
    with pytest.raises(KernelError, match=sentence):
        convolve(library, x, packed, **options)
