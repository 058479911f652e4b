"""The benchmark of runtimes makes networks with zeros in every pattern, and a table of what they take."""

from __future__ import annotations

import bench_runtimes
import pytest
import torch

from campfire_fx.app.train.networks import resnet8
from campfire_fx.cost.measure import Latency
from campfire_fx.cost.runtime_times import BenchRecord, RuntimeTime


def test_the_networks_have_the_zeros_of_their_patterns() -> None:
    dense, example = resnet8(channels=3).eval(), torch.randn(1, 3, 16, 16)
    found = dict(bench_runtimes.networks(dense, ("1x4", "2:4", "channel"), (0.5,), example))
    assert list(found) == ["1x4, 50 %", "2:4", "channel, half of the MACs"]
    weights = [value for name, value in found["1x4, 50 %"].named_parameters() if value.ndim == 4 and value.shape[1] > 3]
    for weight in weights:
        dead = weight == 0
        assert torch.equal(dead[::4], dead[3::4]) and 0.4 < dead.double().mean() < 0.6
    sizes = [sum(p.numel() for p in network.parameters()) for network in (dense, found["channel, half of the MACs"])]
    assert sizes[1] < 0.8 * sizes[0]


def test_a_cell_is_how_many_times_as_fast_a_runtime_is_as_with_the_dense_network() -> None:
    rows = tuple(
        RuntimeTime(name, runtime, Latency(ms, ms, ms, 3))
        for name, runtime, ms in (("dense.onnx", "A 1", 8.0), ("dense.mnn", "B 2", 6.0), ("1x4.mnn", "B 2", 2.0))
    )
    table = bench_runtimes.table([("1x4", BenchRecord(rows, ((1, 3, 8, 8),), 1))]).splitlines()
    assert table == ["| pattern | A 1 | B 2 |", "|---|---:|---:|", "| dense, ms | 8.0 | 6.0 |", "| 1x4 | - | 3.00 |"]


def test_a_runtime_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_runtimes.parsed(["--runtimes", "Caffe"])
    assert "invalid choice: 'Caffe'" in capsys.readouterr().err
