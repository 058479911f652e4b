"""A run that is killed three times ends as one that is never killed, to the bit; the tool that says so can say no."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_kills", ROOT / "tools/run_kills.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


@pytest.mark.slow
def test_three_kills_leave_no_trace() -> None:
    command = [sys.executable, "tools/run_kills.py", "--kills", "3", "--epochs", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^  killed after ", done.stdout, re.MULTILINE)) == 3
    assert re.search(r"^3 kills in \d+ resumed run\(s\): every bit equal\.$", done.stdout, re.MULTILINE)


def write_run(folder: Path, weight: float, step: int, loss: float) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"state": {"w": torch.tensor(weight)}}, folder / "sparse.ckpt")
    place = {"place": {"step": step, "seconds": weight}, "model": {"w": torch.tensor(1.0)}}
    torch.save(place, folder / "checkpoints/sparse-000000009.ckpt")
    (folder / "slim.safetensors").write_bytes(b"slim")
    (folder / "log.csv").write_text(f"epoch,loss,seconds\n0,{loss},{weight}\n")
    return folder


def test_differences_are_found_and_seconds_are_none(tool: ModuleType, tmp_path: Path) -> None:
    one, same = (write_run(tmp_path / name, 1.0, 3, 0.5) for name in "ab")
    other = write_run(tmp_path / "c", 1.0 + 1e-7, 4, 0.6)
    assert tool.differences(one, same) == []
    assert tool.differences(one, other) == [
        "sparse.ckpt: /state/w",
        "checkpoints/sparse-000000009.ckpt: /place/step",
        "log.csv",
    ]
