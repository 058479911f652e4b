"""Files and models timed side by side: every runtime its row, what fails a row with the reason, nothing is touched."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from campfire_fx.base.errors import BenchError
from campfire_fx.cost.runtime_times import BenchRecord
from campfire_fx.export import export
from campfire_fx.export.bench import bench
from campfire_fx.export.runtimes import RUNTIMES
from campfire_fx.report.runtimes import BenchReport, bench_notes
from tests.assertions import Snapshot, assert_untouched

X = torch.randn(2, 3, 8, 8)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.fixture(scope="module")
def files(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name in ("net.onnx", "net.mnn", "net.pt2"):
        export(net.eval(), folder / name, X)
    (folder / "bad.onnx").write_bytes(b"not a model")
    net.train()
    return folder


def test_every_runtime_that_opens_a_file_has_a_row(
    net: nn.Module, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> object:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", refuse)
    before, threads = Snapshot.of(net), torch.get_num_threads()
    sources = {"net": net} | {name: files / name for name in ("net.onnx", "bad.onnx", "net.mnn", "net.pt2")}
    record = bench(sources, size=(9, 7), repeats=3)
    assert_untouched(net, before)
    assert net.training and torch.get_num_threads() == threads
    assert record.shapes == ((1, 3, 9, 7),) and record.threads == 1
    told = [(row.name, " ".join(row.runtime.split()[:-1]), row.latency is not None) for row in record.rows]
    assert told == [
        ("net", "torch eager", True), ("net", "torch.compile", False),
        ("net.onnx", "ONNX Runtime", True), ("net.onnx", "OpenVINO", True),
        ("bad.onnx", "ONNX Runtime", False), ("bad.onnx", "OpenVINO", False),
        ("net.mnn", "MNN", True),
        ("net.pt2", "torch eager", True), ("net.pt2", "torch.compile", False),
    ]  # fmt: skip
    for row in record.rows:
        assert (row.latency is None) == bool(row.reason) and (row.bytes is None) == (row.name == "net")
        assert row.latency is None or row.latency.low_ms <= row.latency.median_ms <= row.latency.high_ms
        assert row.latency is None or (row.latency.repeats == 3 and row.latency.median_ms > 0)
    assert record.rows[1].reason == "RuntimeError: no compiler"
    shown = str(BenchReport(record))
    assert (
        "1.00" in shown and "net in torch.compile" in shown and bench_notes(record)[-1].startswith("One call with 1x3")
    )


def test_a_record_counts_from_the_first_row_that_was_timed_and_survives_json(files: Path) -> None:
    record = bench([files / "bad.onnx", files / "net.onnx"], X, runtimes=["onnx runtime"], repeats=2)
    bad, good = record.rows
    assert record.times_as_fast(bad) is None and record.times_as_fast(good) == 1.0
    facts = json.loads(record.to_json())
    assert facts["rows"][1]["times_as_fast"] == 1.0 and BenchRecord.from_dict(facts) == record
    lines = list(csv.DictReader(io.StringIO(record.to_csv())))
    assert [line["name"] for line in lines] == ["bad.onnx", "net.onnx"]
    assert lines[0]["median_ms"] == "" and lines[0]["reason"] and float(lines[1]["median_ms"]) > 0


def test_a_runtime_that_is_missing_is_a_row_that_says_what_to_install(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "MNN" else object())
    (row,) = bench([files / "net.mnn"], X).rows
    assert re.match(r'not installed: pip install "flatbuffers>=[\d.]+" "mnn>=', row.reason)


def test_what_cannot_be_timed_is_said(net: nn.Module, files: Path) -> None:
    with pytest.raises(BenchError, match=r"runtime 'onnx' is not known\. Did you mean '.*'\? There are torch eager, "):
        bench([net], runtimes=["onnx"])
    with pytest.raises(BenchError, match=r"threads=0 is below 1\. Give 1 or more"):
        bench([net], threads=0)
    with pytest.raises(BenchError, match=r"cannot time it\.h5: there is no such file"):
        bench("it.h5")
    with pytest.raises(BenchError, match=r"bench: a NoneType cannot be timed\. Give files or models"):
        bench(None)
    with pytest.raises(
        BenchError, match=r"no runtime opens it\. Give files of \.pt2, \.safetensors, \.pt, \.pth, \.onnx"
    ):
        bench([Path(__file__)])
    with pytest.raises(BenchError, match=r"no file says which inputs it takes\. Give example_inputs"):
        bench([files / "net.mnn"])
    with pytest.raises(BenchError, match=r"a size of 1x2x3 does not fit an input of 4 axes"):
        bench([net], size=(1, 2, 3))
    assert list(RUNTIMES) == ["torch eager", "torch.compile", "ONNX Runtime", "OpenVINO", "MNN"]
