"""A proof of `shrink --proof` can be checked again, and says what is not as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils import prune

pytest.importorskip("onnxruntime")

import campfire_fx
from campfire_fx.app.train.networks import resnet8
from tests.capture.from_onnx.files import Net, exported

MODEL = "campfire_fx.app.train.networks:resnet8"


@pytest.fixture
def proven(run: Any, tmp_path: Path) -> Path:
    exported(tmp_path / "net.onnx")
    (tmp_path / "out").mkdir()
    result = run(
        "shrink", "net.onnx", "--example", "2x3x12x12", "--output", "out/slim.onnx", "--proof", "out/proof.json"
    )
    assert result.exit_code == 0, result.stderr
    return tmp_path / "out" / "proof.json"


def test_of_onnx_files(run: Any, proven: Path, tmp_path: Path) -> None:
    facts = json.loads(proven.read_text())
    assert facts["before"]["file"] == "../net.onnx" and list(facts["after"]) == ["slim.onnx"]
    assert len({tuple(one["shapes"][0]) for one in facts["runs"]}) == 3  # example, batch, image
    result = run("verify", "out/proof.json")
    assert result.exit_code == 0, result.stderr
    assert "are the files of the proof" in result.stdout and "allowed: 1e-05" in result.stdout
    assert str(tmp_path) not in proven.read_text()


def test_of_a_state_dict(run: Any, tmp_path: Path) -> None:
    network = resnet8(channels=1)
    prune.ln_structured(network.layer2[0].conv1, "weight", amount=0.5, n=2, dim=0)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    arguments = ("--model", MODEL, "--option", "channels=1", "--example", "1x1x16x16")
    assert run("shrink", "weights.pt", *arguments, "--proof", "proof.json").exit_code == 0
    result = run("verify", "proof.json", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)["found"]
    assert set(found["after"]) == {"weights-slim.safetensors", "weights-slim.py"}
    assert 0 < max(one["difference"] for one in found["runs"]) < 1e-5


def test_of_an_exported_program(run: Any, tmp_path: Path) -> None:
    campfire_fx.export(Net().eval(), tmp_path / "net.pt2", torch.randn(2, 3, 12, 12))
    result = run("shrink", "net.pt2", "--output", "slim.pt2", "--proof", "proof.json")
    assert result.exit_code == 0, result.stderr
    assert sum(p.numel() for p in campfire_fx.load(tmp_path / "slim.pt2").parameters()) < 1200
    assert run("verify", "proof.json").exit_code == 0


def changed(proven: Path, **facts: Any) -> None:
    proven.write_text(json.dumps(json.loads(proven.read_text()) | facts))


def test_what_is_not_as_it_was_is_said(run: Any, proven: Path, tmp_path: Path) -> None:
    slim = tmp_path / "out" / "slim.onnx"
    changed(proven, tolerance=1e-12)
    assert "gives other outputs than" in run("verify", "out/proof.json").stderr
    changed(proven, form=99)
    assert "it has format 99, this version reads 1" in run("verify", "out/proof.json").stderr
    changed(proven, form=1)
    slim.write_bytes((tmp_path / "net.onnx").read_bytes())
    assert "slim.onnx is not the file of this proof" in run("verify", "out/proof.json").stderr
    slim.unlink()
    assert "there is no such file" in run("verify", "out/proof.json").stderr
    proven.write_text("{}")
    result = run("verify", "out/proof.json")
    assert result.exit_code == 2 and "it was not written by `shrink --proof`" in result.stderr
