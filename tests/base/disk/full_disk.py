"""Run in a process of its own: write every kind of file where no file may have more than so many bytes.

Prints a line for each kind: what was raised, and whether the folder is as it was.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import campfire_fx
from campfire_fx.app.train.checkpoint import Checkpoint, save
from campfire_fx.app.train.checkpoint_manager import CheckpointManager, Every
from campfire_fx.base.disk.archive import save_archive
from campfire_fx.base.disk.whole import write_text
from campfire_fx.base.errors import TrainError

LIMIT = 16_384


def main(folder: Path, kinds: list[str]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3)).eval()
    example = torch.randn(1, 3, 8, 8)
    checkpoint = Checkpoint("resnet8", {}, (1, 3, 8, 8), None, dict(model.state_dict()))
    writers: dict[str, Callable[[Path], object]] = {
        ".ckpt": lambda path: save(checkpoint, path),
        ".run": lambda path: CheckpointManager(path.parent, {}, Every(steps=1)).save(
            "net", 1, {"model": model.state_dict()}
        ),
        ".cache": lambda path: save_archive(dict(model.state_dict()), path, TrainError),
        ".csv": lambda path: write_text(path, "1,2\n" * LIMIT, TrainError),
    }
    for suffix in (".pt2", ".pt", ".pth", ".safetensors", ".onnx"):
        writers[suffix] = lambda path: campfire_fx.export(model, path, example)
    for kind in kinds:
        place = folder / kind[1:]
        (place / "checkpoints").mkdir(parents=True)
        path = place / f"it{kind}"
        path.write_bytes(b"old")
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))
        try:
            writers[kind](path)
            told = "nothing"
        except campfire_fx.CampfireError as error:
            told = f"{type(error).__name__}: {error}"
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        left = sorted(str(file.relative_to(place)) for file in place.rglob("*") if file.is_file())
        same = left == [path.name] and path.read_bytes() == b"old"
        sys.stdout.write(f"{kind}\t{told}\t{'as it was' if same else left}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
