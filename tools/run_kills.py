"""Kill a training run at random moments, resume it each time, and compare its end with that of a run never stopped.

    tools/run_kills.py                    20 kills; 0 is returned if every bit of the result is the same
    tools/run_kills.py --kills 3 --seed 5

The network is tiny and has dropout, the data are the digits, the regime is combined; a checkpoint is written after
every step, so that many kills meet one half written. Each run is a process of its own, ended by SIGKILL.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import torch  # noqa: E402
from torch import nn  # noqa: E402

from campfire_fx.app.cli import app  # noqa: E402
from campfire_fx.app.train.data import open_data  # noqa: E402
from campfire_fx.training.sparsify import sparsify  # noqa: E402

_STARTS = multiprocessing.get_all_start_methods()
_CONTEXT: Any = multiprocessing.get_context("fork" if "fork" in _STARTS else "spawn")
_PAUSE = 0.005


def tiny_network(classes: int = 10, channels: int = 1) -> nn.Module:
    """Return two convolutions and a linear layer, with BatchNorm and dropout."""
    return nn.Sequential(
        *(nn.Conv2d(channels, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(12, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes)),
    )


def command(folder: Path, epochs: int) -> list[str]:
    return [
        *("train", "--data", "digits", "--model", "run_kills:tiny_network", "--networks", "sparse"),
        *("--formats", "safetensors", "--epochs", str(epochs), "--weight-decay", "0.001", "--threads", "1"),
        *("--checkpoint-every", "1", "--resume", "auto", "--output", str(folder)),
    ]


def child(arguments: Sequence[str], log: Path) -> None:
    """Run the command line, and write what it says to a file."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    app(list(arguments))


def start(folder: Path, epochs: int) -> Any:
    process = _CONTEXT.Process(target=child, args=(command(folder, epochs), folder.with_suffix(".log")))
    process.start()
    return process


def run_whole(folder: Path, epochs: int) -> tuple[float, float]:
    """Run without a kill; return seconds until the first checkpoint, and from there to the last one."""
    began = time.perf_counter()
    process = start(folder, epochs)
    first = None
    while process.is_alive():
        if first is None and any(folder.glob("checkpoints/*.ckpt")):
            first = time.perf_counter() - began
        if (folder / "sparse.ckpt").exists():
            break
        time.sleep(_PAUSE)
    trained = time.perf_counter() - began
    process.join()
    if process.exitcode or first is None:
        raise SystemExit(_failure(process, folder))
    return first, trained - first


def run_killed(folder: Path, epochs: int, delays: Sequence[float]) -> int:
    """Run and kill after each of the delays, or until the run is over; let it end, and return how many kills it was."""
    done = 0
    for delay in delays:
        process = start(folder, epochs)
        process.join(delay)
        if not process.is_alive():
            process.join()
            break
        process.kill()
        process.join()
        done += 1
        print(f"  killed after {delay:.2f} s, at {_step(folder)}", flush=True)
    process = start(folder, epochs)
    process.join()
    if process.exitcode:
        raise SystemExit(_failure(process, folder))
    return done


def _failure(process: Any, folder: Path) -> str:
    return f"A run ended with {process.exitcode}:\n{folder.with_suffix('.log').read_text()}"


def _step(folder: Path) -> str:
    kept = sorted(path.stem for path in folder.glob("checkpoints/*.ckpt"))
    partial = " with one half written" if any(folder.glob("checkpoints/.partial-*")) else ""
    return (kept[-1] if kept else "the start") + partial


def differences(one: Path, other: Path) -> list[str]:
    """Name everything in which the results of two runs differ: weights, masks, clock, optimizer, losses, slim file."""
    found = []
    names = ["sparse.ckpt", *(f"checkpoints/{path.name}" for path in sorted(one.glob("checkpoints/*.ckpt"))[-1:])]
    for name in names:
        left, right = (torch.load(folder / name, weights_only=True) for folder in (one, other))
        found += [f"{name}: {place}" for place in _unequal(left, right, "")]
    if (one / "slim.safetensors").read_bytes() != (other / "slim.safetensors").read_bytes():
        found.append("slim.safetensors")
    logs = [[{**row, "seconds": ""} for row in csv.DictReader((folder / "log.csv").open())] for folder in (one, other)]
    return found if logs[0] == logs[1] else [*found, "log.csv"]


def _unequal(left: Any, right: Any, place: str) -> list[str]:
    if isinstance(left, torch.Tensor):
        return [] if torch.equal(left, right) and left.dtype == right.dtype else [place]
    if isinstance(left, dict):
        if left.keys() != right.keys():
            return [place]
        return [one for key in left if key != "seconds" for one in _unequal(left[key], right[key], f"{place}/{key}")]
    if isinstance(left, list | tuple) and len(left) == len(right):
        return [one for a, b in zip(left, right, strict=True) for one in _unequal(a, b, place)]
    return [] if left == right else [place]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the moments; it is printed")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    open_data("digits")  # what every run imports is imported once,
    sparsify(tiny_network(), example_inputs=torch.randn(1, 1, 16, 16))  # so that most kills meet training
    moments = random.Random(wanted.seed)
    print(f"Seed of the moments: {wanted.seed}.", flush=True)
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        first, trained = run_whole(whole, wanted.epochs)
        print(f"Without a kill: first checkpoint after {first:.2f} s, {trained:.2f} s of training.", flush=True)
        return _kill(whole, wanted, moments, first + 2 * trained / (wanted.kills + 1))


def _kill(whole: Path, wanted: argparse.Namespace, moments: random.Random, latest: float) -> int:
    kills = runs = 0
    bad: list[str] = []
    while kills < wanted.kills:  # a run may end before all the kills have been dealt out: then another takes the rest
        folder = whole.with_name("killed")
        runs += 1
        kills += run_killed(folder, wanted.epochs, [moments.uniform(0, latest) for _ in range(wanted.kills - kills)])
        bad += differences(whole, folder)
        shutil.rmtree(folder)
    verdict = f"DIFFERENT in {', '.join(bad)}" if bad else "every bit equal"
    print(f"{kills} kills in {runs} resumed run(s): {verdict}.")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
