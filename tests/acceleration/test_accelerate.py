"""Accelerated models: the same outputs in whatever form the layers are, at every size; and what they refuse."""

from __future__ import annotations

import copy
import io
import json
import pickle
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import campfire_fx
from campfire_fx import AccelerateError, accelerate
from campfire_fx.acceleration import accelerate as whole
from campfire_fx.acceleration import forms as all_forms
from campfire_fx.base.errors import KernelError
from campfire_fx.kernels.libraries import CannotCompileError
from campfire_fx.layers.channels_last import ChannelsLast
from campfire_fx.layers.sparse import SparseConvolution, SparseLinear
from tests.acceleration.forced import forms, needs_compiler, prefer
from tests.assertions import Snapshot, assert_shares_no_memory, assert_untouched
from tests.random_nets import OPERATIONS, RandomNet
from tests.random_zeros import calibrate, random_zeros, randomise

X = torch.randn(2, 4, 12, 11)


def small() -> nn.Module:
    """A network with a norm, a sum, two activations and a linear layer, half of its weights zero at random."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(4, 8, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(8)
            self.second = nn.Conv2d(8, 8, 1)
            self.last = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.norm(self.first(x)))
            return self.last(nn.functional.silu(self.second(y) + y).mean((2, 3)))

    torch.manual_seed(0)
    net = randomise(Small(), 0).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:
                parameter[torch.rand_like(parameter) < 0.5] = 0
    return net


def assert_equal(before: nn.Module, after: nn.Module, *inputs: Tensor) -> None:
    """Compare with the model in float64."""
    with torch.no_grad():
        expected = copy.deepcopy(before).double()(*(x.double() for x in inputs))
        got = after(*inputs)
    pairs = zip(expected, got, strict=True) if isinstance(expected, tuple) else [(expected, got)]
    for one, other in pairs:
        assert one.shape == other.shape
        assert float((one - other).abs().max()) <= 1e-5 * float(one.abs().max().clamp(min=1e-3))


@needs_compiler
def test_every_layer_takes_the_form_that_is_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch)
    net = small()
    snapshot = Snapshot.of(net)
    fast = accelerate(net, X)
    assert forms(fast) == dict.fromkeys(("first", "second", "last"), "zeros skipped")
    assert [type(fast.get_submodule(name)) for name in forms(fast)] == [SparseConvolution] * 2 + [SparseLinear]
    assert [layer.fused for layer in fast.acceleration.layers] == [("relu",), ("sum", "silu"), ()]
    assert not [module for module in fast.modules() if isinstance(module, nn.BatchNorm2d)]
    assert_untouched(net, snapshot)
    assert_shares_no_memory(net, fast)
    for x in (X, torch.randn(1, 4, 33, 40), torch.randn(5, 4, 1, 1)):
        assert_equal(net, fast, x)


@pytest.mark.parametrize("stride", [1, 2])
def test_filters_that_read_the_same_are_grouped(monkeypatch: pytest.MonkeyPatch, stride: int) -> None:
    prefer(monkeypatch)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 16, 3, stride, 1), nn.ReLU(), nn.Conv2d(16, 4, 1)).eval()
    with torch.no_grad():
        net[1].weight[::2, ::2] = 0  # two sets of filters, each with half of the inputs
        net[1].weight[1::2, 1::2] = 0
    fast = accelerate(net, X)
    assert forms(fast)["1"] == "filters grouped"
    assert_equal(net, fast, X)
    assert_equal(net, fast, torch.randn(1, 4, 21, 5))


@needs_compiler
@pytest.mark.parametrize("form", ["dense", "dense, channels last"])
def test_what_is_not_faster_comes_back_dense(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    prefer(monkeypatch, form)
    fast = accelerate(small(), X)
    assert fast.acceleration.chosen == form and fast.acceleration.gain == 1
    assert not [module for module in fast.modules() if isinstance(module, SparseConvolution)]
    assert fast.first.weight.is_contiguous(memory_format=torch.channels_last) is (form != "dense")
    assert f"it is {form}, with norms folded" in " ".join(str(fast.report()).split())
    assert_equal(small(), fast, X)


@needs_compiler
def test_it_can_be_copied_pickled_and_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch)
    fast = accelerate(small(), X)
    expected = fast(X.clone())
    file = io.BytesIO()
    torch.save(fast, file)
    file.seek(0)
    blank = copy.deepcopy(fast)
    for buffer in blank.buffers():
        buffer.zero_()
    blank.load_state_dict(fast.state_dict())
    others = (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast)), torch.load(file, weights_only=False), blank)
    for other in others:
        assert isinstance(other, campfire_fx.AcceleratedModel) and not other.training
        assert torch.equal(other(X), expected)
        assert other.acceleration == fast.acceleration


@needs_compiler
def test_it_compiles_and_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch)
    net = small()
    fast = accelerate(net, X)
    with torch.no_grad():
        compiled: Any = torch.compile(fast, backend="aot_eager", dynamic=True, fullgraph=True)
        assert_equal(net, compiled, X)
        assert_equal(net, compiled, torch.randn(3, 4, 20, 9))
        sizes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
        program = torch.export.export(fast, (X,), dynamic_shapes=(sizes,))
    called = [str(node.target) for node in program.graph.nodes if "campfire_fx" in str(node.target)]
    assert called == ["campfire_fx.sparse_convolution.default"] * 2 + ["campfire_fx.sparse_linear.default"]
    assert_equal(net, program.module(), torch.randn(3, 4, 20, 9))
    for name, example in (("sparse_convolution", X), ("sparse_linear", X[:, :, 0, 0])):
        layer = next(m for m in fast.modules() if isinstance(m, (SparseConvolution, SparseLinear)))
        layer = fast.first if name == "sparse_convolution" else SparseLinear(fast.last.packed, fast.last.bias)
        x = example if name == "sparse_convolution" else torch.randn(2, 8)
        layout = [*layer.shape, *(number for pair in layer.geometry[:3] for number in pair), layer.geometry.groups]
        given = (x, layer.positions, layer.values, layout, layer.bias, None)
        operation = getattr(torch.ops.campfire_fx, name).default
        torch.library.opcheck(operation, given, {"activation": "relu"}, test_utils=("test_schema", "test_faketensor"))


def test_it_trains_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch)
    fast = accelerate(small(), X)
    with pytest.raises(AccelerateError, match="cannot be trained: .*Train the slim model, and accelerate it again"):
        fast.train()
    assert fast.eval() is fast and not fast.training
    with pytest.raises(AccelerateError, match="is accelerated already. Give the slim model"):
        accelerate(fast, X)


@needs_compiler
def test_no_gradient_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch)
    fast = accelerate(small(), X)
    with pytest.raises(KernelError, match="no backward pass. Call it under torch.no_grad"):
        fast(X.clone().requires_grad_())
    with torch.no_grad():
        assert fast(X.clone().requires_grad_()).shape == (2, 3)
    layer = fast.first.train()
    with pytest.raises(KernelError, match="put in training mode"):
        layer(X)


@pytest.mark.parametrize(
    ("change", "example", "told"),
    [
        (nn.Module.half, X.half(), "the weight first.weight is of float16, and these kernels compute in float32"),
        (nn.Module.double, X.double(), "the weight first.weight is of float64"),
        (lambda net: net, X.bfloat16(), "the example is of bfloat16"),
    ],
)
def test_what_kernels_cannot_compute_with_is_refused(change: Any, example: Tensor, told: str) -> None:
    net = change(small())
    with pytest.raises(AccelerateError, match=told):
        accelerate(net, (example,))


def test_weights_elsewhere_than_on_the_cpu_are_refused() -> None:
    with pytest.raises(AccelerateError, match="the weight first.weight is on meta, and these kernels are the CPU's"):
        whole._check(small().to("meta"), [((X,), {})])
    with pytest.raises(AccelerateError, match="the example is on meta"):
        whole._check(small(), [((X.to("meta"),), {})])


def test_without_a_compiler_everything_stays_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise CannotCompileError("There is no C++ compiler: install one.")

    prefer(monkeypatch)
    monkeypatch.setattr(all_forms, "kernels", none)
    fast = accelerate(small(), X)
    assert "zeros skipped" not in forms(fast).values()
    assert "there are no kernels" in {time.reason for time in fast.acceleration.layers[0].times}
    assert " ".join(str(fast.report()).split()).endswith("kernels: There is no C++ compiler: install one.")
    assert_equal(small(), fast, X)


@needs_compiler
def test_a_kernel_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch)
    made = all_forms.sparse_layer

    def spoilt(layer: Any, activation: str) -> Any:
        result = made(layer, activation)
        result.values[-1] += 1e-3
        return result

    monkeypatch.setattr(all_forms, "sparse_layer", spoilt)
    fast = accelerate(small(), X)
    assert "zeros skipped" not in forms(fast).values()
    for layer in fast.acceleration.layers:
        assert any(time.reason.startswith("its output differs by ") for time in layer.times)


@needs_compiler
def test_whole_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch)
    image = torch.randn(1, 3, 64, 64)
    for name, skipped in (("resnet18", 21), ("mobilenet_v2", 50)):
        net = calibrate(random_zeros(randomise(getattr(torchvision.models, name)(), 0), linears=True), image).eval()
        fast = accelerate(net, image)
        assert len(forms(fast)) >= skipped and "zeros skipped" in forms(fast).values()
        assert fast.verification.difference < 1e-5
        assert [run.shape[0] for run in fast.verification.runs] == [1, 2]


def test_it_is_measured() -> None:
    net = small()
    fast = accelerate(campfire_fx.shrink(net, X))
    assert torch.equal(fast.example[0][0], X)
    facts = json.loads(fast.report().to_json())
    assert facts["whole"].keys() == {"dense", "dense, channels last", "accelerated"}
    assert [layer["name"] for layer in facts["layers"]] == ["first", "second", "last"]
    assert all(layer["times"][0]["ms"] is None or layer["times"][0]["ms"] > 0 for layer in facts["layers"])
    assert facts["gain"] >= 1 and facts["verification"]["difference"] < 1e-5
    shown = str(fast.report())
    assert "Network" in shown and "times as fast" in shown and "first" in shown
    assert accelerate(net, X, verify=False).verification is None


@needs_compiler
@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), *[st.integers(0, 30)] * 3), min_size=1, max_size=6))
def test_random_networks(steps: list[tuple[str, int, int, int]]) -> None:
    net = RandomNet(steps)
    image = net.example()[0].float()
    net = calibrate(random_zeros(randomise(net, 0)), image).eval()
    with pytest.MonkeyPatch.context() as patch:
        prefer(patch)
        fast = accelerate(net, image)
    assert fast.verification.difference < 1e-5
    assert_equal(net, fast, torch.randn(3, 3, 8, 8))


def test_channels_last_gives_what_the_layer_gives_as_nchw() -> None:
    layer = nn.Conv2d(3, 8, 7, stride=2, padding=3).eval()
    last = copy.deepcopy(ChannelsLast(layer))
    x = torch.randn(2, 3, 19, 23)
    with torch.no_grad():
        y = last(x)
        torch.testing.assert_close(y, layer(x), rtol=1e-5, atol=1e-5)
    assert y.is_contiguous() and layer.weight.is_contiguous()
