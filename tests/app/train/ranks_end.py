"""One of two processes that torchrun starts: trains a step, ends as it is told, and says which threads are left."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from campfire_fx.app.train.ranks import Ranks, join_ranks


def step(ranks: Ranks, network: nn.Module, ending: str) -> None:
    """Average a gradient over the processes; the local name of the wrapper is what an error would keep."""
    wrapped = ranks.wrap(network)
    wrapped(torch.ones(2, 3)).sum().backward()
    if ending == "error":
        raise ValueError("told to")


def threads() -> list[str]:
    """The names of this process's threads."""
    return sorted((task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir())


if __name__ == "__main__":
    network, kept = nn.Linear(3, 2), None
    try:
        with join_ranks("cpu") as ranks:
            within = threads()
            step(ranks, network, sys.argv[1])
    except ValueError as error:
        kept = error
    line = f"{sys.argv[1]}: gloo within {any('gloo' in name for name in within)}, "
    sys.stdout.write(f"{line}after {any('gloo' in name for name in threads())}, {kept}\n")
