"""Two processes that torchrun starts: what one process computes, written and printed once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from campfire_fx.app.cli import app
from campfire_fx.app.train.batches import Share, TrainBatches
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.ranks import ALONE, Ranks, join_ranks
from campfire_fx.app.train.split import Split
from campfire_fx.base.errors import TrainError

ROOT = Path(__file__).parents[3]
NETWORK = """
from torch import nn

def plain(classes, channels):
    '''Without BatchNorm, whose statistics are each process's own.'''
    layers = nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, classes))
"""
LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
OPTIONS = (
    *(
        "--model",
        "two_ranks:plain",
        "--networks",
        "sparse",
        "--formats",
        "safetensors",
        "--epochs",
        "3",
        "--batch",
        "32",
    ),
    *("--weight-decay", "0.001", "--learning-rate", "0.02", "--threads", "1", "--device", "cpu"),
)


def two_processes(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    return subprocess.run([*LAUNCH, *command], env=environment, capture_output=True, text=True, check=False)


def test_one_process_is_a_run_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with join_ranks("cpu") as ranks:
        assert ranks == ALONE and ranks.first
        assert ranks.gathered(1, 2) == [(1, 2)] and ranks.from_first(lambda: 3) == 3 and ranks.joined(["a"]) == ["a"]
    with pytest.raises(TrainError, match="--device tpu: it is not known"), join_ranks("tpu"):
        pass


def test_processes_share_every_step_evenly() -> None:
    split = Split(torch.randint(0, 256, (24, 1, 8, 8), dtype=torch.uint8), torch.arange(24))
    data = ImageData("noise", ("a",), split, split, split, True, (0.5,), (0.3,))
    whole = list(TrainBatches(data, 8, seed=1).epoch(2))
    parts = [list(TrainBatches(data, 8, 1, share=Share(Ranks(rank, 2))).epoch(2)) for rank in (0, 1)]
    for (images, targets), (left, first), (right, second) in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([left, right]), images) and torch.equal(torch.cat([first, second]), targets)
    with pytest.raises(TrainError, match="--batch .*: 2 processes cannot share 9 images evenly"):
        TrainBatches(data, 9, 1, share=Share(Ranks(0, 2)))


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "two_ranks.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    alone = CliRunner().invoke(app, ["train", *OPTIONS, "--output", "one"])
    assert alone.exit_code == 0, alone.stderr
    done = two_processes("-m", "campfire_fx", "train", *OPTIONS, "--output", "two")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "batches of 32 shared by 2 processes" in done.stdout
    assert done.stdout.count("Trained sparse") == done.stdout.count("Written to") == 1
    one, two = (torch.load(tmp_path / name / "sparse.ckpt", weights_only=True)["state"] for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        if tensor.dtype == torch.bool:
            assert torch.equal(tensor, two[name]), name
        elif tensor.is_floating_point():
            assert torch.allclose(tensor, two[name], rtol=1e-4, atol=1e-5), name
    assert any(tensor.dtype == torch.bool and not tensor.all() for tensor in one.values())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed there")
@pytest.mark.parametrize("ending", ["well", "error"])
def test_no_thread_of_the_group_outlives_it(ending: str) -> None:
    """One that did could abort the process while the interpreter is torn down."""
    done = two_processes(Path(__file__).with_name("ranks_end.py"), ending)
    assert done.returncode == 0, done.stdout + done.stderr
    said = "told to" if ending == "error" else "None"
    assert done.stdout.splitlines() == [f"{ending}: gloo within True, after False, {said}"] * 2
