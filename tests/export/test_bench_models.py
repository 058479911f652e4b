"""Models in memory timed in every runtime: exported for those that open files, and in the report of a shrink."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import campfire_fx
from campfire_fx.base.errors import BenchError
from campfire_fx.export.bench_models import bench_models
from campfire_fx.export.runtimes import RUNTIMES, Runtime
from tests.assertions import Snapshot, assert_untouched

X = torch.randn(2, 3, 8, 8)
INSTALLED = [name for name, runtime in RUNTIMES.items() if runtime.installed and name != "torch.compile"]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        model[0].weight[::2] = 0
    return model.eval()


def test_each_model_has_a_row_in_each_runtime_and_is_left_as_it_is() -> None:
    models = {"wide": net(), "same": net()}
    before = Snapshot.of(models["wide"])
    record = bench_models(models, X, runtimes=INSTALLED, repeats=2)
    assert_untouched(models["wide"], before)
    assert len(INSTALLED) >= 4, "ONNX Runtime, OpenVINO and MNN are in the environment of the tests"
    told = [(row.runtime.rpartition(" ")[0], row.name) for row in record.rows]
    assert told == [(runtime, name) for runtime in INSTALLED for name in models]
    assert all(row.latency is not None and not row.reason for row in record.rows)


class OnlyTorch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x @ x.mT).real


def test_what_cannot_be_exported_is_a_row_with_the_reason() -> None:
    record = bench_models({"net": net(), "odd": OnlyTorch()}, X, runtimes=["torch eager", "ONNX Runtime"], repeats=2)
    rows = {(row.runtime.rpartition(" ")[0], row.name): row for row in record.rows}
    assert [bool(row.reason) for row in rows.values()] == [False, False, False, True]
    assert rows["ONNX Runtime", "odd"].latency is None and rows["torch eager", "odd"].latency is not None


def test_the_report_of_a_shrink_says_what_each_runtime_takes() -> None:
    model = net()
    slim: Any = campfire_fx.shrink(model, X)
    report = slim.report(runtimes=["onnx runtime"])
    assert [row.name for row in report.runtimes.rows] == ["before", "slim"]
    text = str(report)
    assert "ONNX Runtime" in text and "before" in text and "times as fast" in text
    assert len(json.loads(report.to_json())["runtimes"]["rows"]) == 2
    assert slim.report().runtimes is None
    del model
    assert [row.name for row in slim.report(runtimes=["torch eager"]).runtimes.rows] == ["slim"]


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, *, image: Tensor) -> Tensor:
        return self.conv(image)


def test_what_cannot_be_timed_is_refused() -> None:
    slim: Any = campfire_fx.shrink(Keywords(), {"image": X})
    with pytest.raises(BenchError, match="tensors as positional arguments"):
        slim.report(runtimes=None)
    with pytest.raises(BenchError, match="Did you mean"):
        campfire_fx.shrink(net(), X).report(runtimes=["ONNX Runtim"])


def test_a_runtime_that_is_not_installed_is_refused_by_name_and_left_out_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = Runtime("MNN", "no_such_package", "no_such_package", (".mnn",), lambda *_: None, "mnn")
    monkeypatch.setitem(RUNTIMES, "MNN", missing)
    with pytest.raises(BenchError, match="not installed"):
        bench_models({"net": net()}, X, runtimes=["MNN"])
    monkeypatch.setattr(torch, "compile", lambda model: model)
    rows = bench_models({"net": net()}, X, repeats=2).rows
    assert rows and not any(row.runtime.startswith("MNN") for row in rows)
