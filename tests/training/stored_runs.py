"""Trainings that were stopped and stored by an earlier version, one of each method, and how they went on.

`stored/` was written by the version before methods had one life cycle, with `python -m tests.training.stored_runs`;
written again it would be of the present version. Gradients are given by hand, as multiples of 1/64, so that
sums of them are exact in float32 and a training ends the same on every machine.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from campfire_fx.app.train.checkpoint import Checkpoint, save
from campfire_fx.sparsity import COLUMN, ELEMENT, FILTER, KERNEL, WITHIN_LAYER, Admm, Cut, Regime, admm
from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify

STORED = Path(__file__).with_name("stored")
STEPS, PER_EPOCH = 15, 3
SHAPE = (1, 3, 6, 6)
FACTORY = "tests.training.stored_runs:Tiny"


class Tiny(nn.Module):
    """A stem, two convolutions with a norm between them, a 1x1 and a linear layer: 500 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv1, self.bn1 = nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 4, 3, padding=1, bias=False)
        self.point = nn.Conv2d(4, 8, 1)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3)."""
        x = F.relu(self.bn1(self.conv1(F.relu(self.stem(x)))))
        return self.fc(F.relu(self.point(F.relu(self.conv2(x)))).mean((2, 3)))


def of_users(magnitudes: Tensor, _sizes: Tensor) -> Tensor:
    """Score a group by its second largest magnitude."""
    return magnitudes.topk(2, -1).values[..., 1]


def _own() -> Regime:
    cut = Cut(KERNEL, of_users, WITHIN_LAYER)
    return Regime("own", cut, None, None)


_RHO = 0.03  # the default when these were stored
# Name of a file -> arguments of `sparsify`.
RUNS: Mapping[str, Mapping[str, Any]] = {
    "combined": {"regime": "combined"},
    "late": {"regime": "combined", "masks_move": "after", "window_cap": 4},
    "by-hand": {"regime": "filter", "overrides": {"conv2": {"regime": "2:4"}}},
    "swat-u": {"regime": "swat-u", "period": 2},
    "swat-m": {"regime": "swat-m", "period": 2},
    "swat-structured": {"regime": "swat-structured"},
    "rigl": {"regime": "rigl", "period": 2},
    "admm-column": {"regime": "admm-column", "rho": 0.25},
    "admm-steps": {"regime": partial(admm, FILTER, update=Admm(0.25, 1.5, 2), steps=(0.5, 1.0)), "era": (0, 4)},
    "admm-column-filter": {
        "regime": "admm-column-filter",
        "rho": _RHO,
        "overrides": {"fc": {"regime": admm(ELEMENT, rho=_RHO)}},
    },
    "mixed": {
        "regime": partial(admm, COLUMN, rho=_RHO),
        "overrides": {"point": {"regime": "rigl"}, "fc": {"regime": "swat-u"}},
    },
    "own": {"regime": _own},
}
STOPS = dict.fromkeys(RUNS, 7) | {"late": 6}  # steps: inside an epoch, or between two, with masks waiting to move
COMMANDS = ("combined", "swat-u", "rigl", "admm-column")  # stored as the training command does it, too


def start(name: str, seed: int = 0) -> tuple[SparseModel, SGD]:
    """Return the model of a run before its first step, and its optimizer, not attached."""
    generator = torch.Generator().manual_seed(seed)
    tiny = Tiny()
    with torch.no_grad():
        for parameter in tiny.parameters():
            parameter.copy_(torch.randint(-127, 128, parameter.shape, generator=generator) / 64)
    wishes = dict(RUNS[name])
    regime = wishes.pop("regime")
    model = sparsify(
        tiny,
        regime if isinstance(regime, str) else regime(),
        **{"era": (1, 4), "example_inputs": torch.zeros(SHAPE)} | wishes,
    )
    return model, SGD(model.parameters(), 0.25, momentum=0.5)


def go_on(model: SparseModel, optimizer: SGD, first: int, last: int) -> None:
    """Take the steps from `first` up to `last`, attached."""
    handle = model.attach(optimizer, steps_per_epoch=PER_EPOCH)
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        drawn = [
            (p, torch.randint(-8, 9, p.shape, generator=generator) / 64) for _, p in sorted(model.named_parameters())
        ]
        torch.stack([(parameter * gradient).sum() for parameter, gradient in drawn]).sum().backward()
        optimizer.step()
    handle.remove()


def write(folder: Path) -> None:
    """Write all runs."""
    for name in RUNS:
        torch.manual_seed(5)
        model, optimizer = start(name)
        if name == "by-hand":
            model.set_mask("conv1", torch.ones(6, 4, 3, 3).tril() > 0)
        go_on(model, optimizer, 0, STOPS[name])
        content: dict[str, Any] = {
            "model": {key: value.clone() for key, value in model.state_dict().items()},
            "momenta": [optimizer.state[p]["momentum_buffer"].clone() for p in model.parameters()],
        }
        if name in COMMANDS:
            wishes = {**RUNS[name], "era": (1, 4)}
            save(Checkpoint(FACTORY, {}, SHAPE, wishes, content["model"]), folder / f"{name}.ckpt")
        go_on(model, optimizer, STOPS[name], STEPS)
        content["end"] = {k: v.clone() for k, v in model.state_dict().items() if not k.endswith("_extra_state")}
        torch.save(content, folder / f"{name}.pt")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else STORED)
