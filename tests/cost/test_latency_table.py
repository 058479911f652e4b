"""Which layers a latency table has, at which widths they are timed, and how the rest of a model comes in."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import campfire_fx
from campfire_fx import CampfireError
from campfire_fx.cost import latency_points
from campfire_fx.cost.latency_calls import calls_of
from campfire_fx.cost.latency_points import grid_of, points_of, step_of, widths
from campfire_fx.cost.latency_table import latency_table
from tests.cost.timed import IMAGE, Clock, Plain, use

KINDS = [
    (nn.Conv1d(8, 16, 3, stride=2), (2, 8, 20)),
    (nn.Conv2d(8, 16, 3, padding="same", padding_mode="circular"), (2, 8, 6, 6)),
    (nn.Conv3d(8, 4, 2), (1, 8, 4, 4, 4)),
    (nn.ConvTranspose1d(8, 4, 2), (1, 8, 5)),
    (nn.ConvTranspose2d(8, 12, 3, stride=2, output_padding=1), (1, 8, 5, 5)),
    (nn.ConvTranspose2d(8, 8, 3, groups=4), (1, 8, 5, 5)),
    (nn.ConvTranspose3d(4, 4, 2, bias=False), (1, 4, 3, 3, 3)),
    (nn.Conv2d(8, 8, 3, groups=8), (2, 8, 6, 6)),
    (nn.Conv2d(8, 24, 3, groups=8), (2, 8, 6, 6)),
    (nn.Conv2d(8, 16, 3, groups=4, dilation=2), (2, 8, 6, 6)),
    (nn.Conv2d(8, 16, 3), (8, 6, 6)),
    (nn.Linear(8, 16), (2, 5, 8)),
    (nn.Linear(8, 16, dtype=torch.float64), (8,)),
]


@pytest.mark.parametrize(("layer", "shape"), KINDS, ids=lambda value: str(value))
def test_each_kind_of_layer_is_timed_at_its_widths(layer: nn.Module, shape: tuple[int, ...]) -> None:
    table = latency_table(layer, (torch.randn(shape, dtype=layer.weight.dtype),), cache=False)
    (times,) = table.times
    assert times.name == "" and times.operation == type(layer).__name__
    assert (times.tried_inputs[-1], times.tried_outputs[-1]) == (times.inputs, times.outputs)
    assert len(times.ms) == len(times.tried_inputs)
    assert all(len(row) == len(times.tried_outputs) and min(row) > 0 for row in times.ms)
    assert math.isfinite(table.dense_ms) and table.dense_ms > 0


@pytest.mark.parametrize(("layer", "shape"), KINDS, ids=lambda value: str(value))
def test_the_layers_that_are_timed_have_the_widths_that_are_asked_for(layer: nn.Module, shape: tuple[int, ...]) -> None:
    ((call,),) = calls_of(layer, (torch.randn(shape, dtype=layer.weight.dtype),)).layers.values()
    full = call.layer(call.inputs, call.outputs)
    assert {name: p.shape for name, p in full.named_parameters()} == {n: p.shape for n, p in layer.named_parameters()}
    for point in points_of({call: 1}):
        slim = call.layer(point.inputs, point.outputs)
        read = torch.zeros(call.narrowed(point.inputs, point.outputs), dtype=layer.weight.dtype, device="meta")
        assert slim(read).shape[call.axis] == point.outputs
        assert call.groups > 1 or read.shape[call.axis] == point.inputs


def test_every_layer_that_runs_is_there_and_equal_calls_are_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = use(monkeypatch, Clock())
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, bias=False))
    table = latency_table(model, (torch.randn(1, 4, 3, 3),), cache=False)
    assert table.layers == ("0", "2", "3")
    assert len(clock.asked) == len({point.key for point in clock.asked}) == 2 * 4 * 4


def test_a_layer_that_is_called_twice_has_the_time_of_both_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Clock(lambda point: point.call.shape[-1] if point.call.operation == "Conv2d" else 1.0))
    table = latency_table(Plain(), (IMAGE,), cache=False)
    assert table.layers == ("stem", "twice", "head")
    assert (table.layer_ms("stem", 3, 16), table.layer_ms("twice", 16, 16)) == (8, 8 + 4)
    assert [times.elements for times in table.times] == [2 * 16 * 64, 2 * 16 * (64 + 16), 2 * 10]


def test_grouped_layers_are_timed_over_their_groups() -> None:
    model = nn.Sequential(nn.Conv2d(32, 64, 1, groups=8), nn.Conv2d(64, 64, 3, groups=64))
    grouped, depthwise = (call for (call,) in calls_of(model, (torch.randn(1, 32, 5, 5),)).layers.values())
    assert grid_of(grouped, 1) == ((32,), (8, 16, 32, 48, 64))
    assert grid_of(depthwise, 16) == ((64,), (8, 16, 32, 48, 64))
    assert [p.call.narrowed(p.inputs, p.outputs)[1] for p in points_of({grouped: 1})] == [4, 8, 16, 24, 32]


def test_widths_are_shares_of_the_full_one_in_whole_steps() -> None:
    assert widths(64) == (8, 16, 32, 48, 64)
    assert widths(3) == (1, 2, 3) and widths(1) == (1,)
    assert widths(144, 16) == (32, 48, 80, 112, 144)
    assert widths(20, 16) == (3, 5, 10, 15, 20)


def test_steps_are_the_vectors_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, groups=4), nn.Conv2d(4, 4, 1, groups=2), nn.Flatten())
    calls = [call for (call,) in calls_of(model.append(nn.Linear(4, 4)), (torch.randn(1, 4, 1, 1),)).layers.values()]
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    for name, lanes in (("AVX512", 16), ("AVX2", 8), ("DEFAULT", 1)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda name=name: name)
        assert [step_of(call, cpu) for call in calls] == [lanes, lanes, 1, 1]
    assert step_of(calls[0], torch.device("cuda")) == 1


def test_the_rest_shrinks_with_what_the_layers_write(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Clock(whole=10.0, norms=50 * 0.5))  # half a millisecond an operation
    model = nn.Sequential(nn.Conv2d(4, 8, 1), nn.ReLU(), nn.Sigmoid())
    table = latency_table(model, (torch.randn(1, 4, 5, 5),), cache=False)
    rest = 10 - 4 * 8 / 1000 - 2 * 0.5
    assert table.constant_ms == 1 and table.element_ns * 1e-6 * 8 * 25 == pytest.approx(rest)
    assert table.dense_ms == pytest.approx(table.whole_ms) == 10
    assert table.total_ms({"0": (4, 2)}) == pytest.approx(4 * 2 / 1000 + 1 + rest / 4)


def test_layers_that_take_longer_alone_than_in_the_model_are_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Clock(lambda point: 4.0, whole=6.0, norms=99.0))
    table = latency_table(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), (torch.randn(1, 4),), cache=False)
    assert [table.layer_ms(path, 4, 4) for path in table.layers] == [3, 3]
    assert (table.constant_ms, table.element_ns) == (0, 0) and table.dense_ms == 6


def test_paths_are_those_of_a_sparse_model_too(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Clock())
    sparse = campfire_fx.sparsify(Plain(), sparsity=0.5, example_inputs=IMAGE)
    state = {name: value.clone() for name, value in sparse.state_dict().items()}
    table = latency_table(sparse.train(), (), {"x": IMAGE}, cache=False)
    modules = dict(sparse.named_modules())
    assert [type(modules[path]).__name__ for path in table.layers] == ["MaskedConv2d", "MaskedConv2d", "MaskedLinear"]
    assert sparse.training and all(torch.equal(state[name], value) for name, value in sparse.state_dict().items())


def test_it_says_what_it_was_measured_on(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Clock())
    table = latency_table(Plain().double(), (IMAGE.double(),), cache=False)
    assert table.shapes == ((2, 3, 8, 8),) and table.dtype == "float64"
    assert table.setting.threads == torch.get_num_threads() and table.setting.torch == torch.__version__
    with torch.autocast("cpu", torch.bfloat16):
        assert "bfloat16" in latency_table(Plain(), (IMAGE,), cache=False).setting.switches


def test_memory_formats_are_told_apart() -> None:
    image = torch.randn(1, 4, 5, 5)
    plain, last = (
        next(iter(calls_of(nn.Conv2d(4, 4, 3).to(memory_format=layout), (image.to(memory_format=layout),)).layers[""]))
        for layout in (torch.contiguous_format, torch.channels_last)
    )
    assert plain.channels_last == (False, False) and last.channels_last == (True, True)
    memory = latency_points._Memory([latency_points.Point(last, 2, 3)], torch.device("cpu"))
    layer = memory._layer(latency_points.Point(last, 2, 3))
    assert layer.weight.shape == (3, 2, 3, 3) and layer.weight.is_contiguous(memory_format=torch.channels_last)


def test_layers_of_ones_own_are_timed_as_those_they_are_derived_from(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(nn.Conv2d):
        pass

    use(monkeypatch, Clock())
    model = nn.Sequential(Own(4, 4, 1), nn.LazyConv2d(8, 1))
    model(torch.randn(1, 4, 5, 5))
    table = latency_table(model, (torch.randn(1, 4, 5, 5),), cache=False)
    assert [times.operation for times in table.times] == ["Conv2d", "Conv2d"]


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(CampfireError, match="calls no convolution and no linear layer. Give one that does"):
        latency_table(nn.ReLU(), (IMAGE,), cache=False)
