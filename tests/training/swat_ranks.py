"""What each of two processes does in the test of SWAT on several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

from campfire_fx.base.sharding import reshard, whole
from campfire_fx.training.model import SparseModel
from tests.distributed_training import group
from tests.sparse_training import batches, masks, sparse

STEPS, STOP = 8, 4


def fresh() -> SparseModel:
    return sparse("swat-m", sparsity=0.6, period=3)


def run_rank(rank: int, folder: str) -> None:
    """Train, and train again from the first process's state in the middle."""
    with group(rank, folder) as share:
        data = [(x[share], y[share]) for x, y in batches(STEPS)]
        found = {"whole": _train(data), "resumed": _resumed(data, Path(folder)), "sharded": _sharded(data)}
        torch.save(found, Path(folder) / f"{rank}.pt")


def _train(data: list[tuple[Tensor, Tensor]], state: dict[str, Any] | None = None) -> dict[str, Any]:
    model = fresh()
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    wrapped = DistributedDataParallel(model)
    model.attach(optimizer)
    for x, y in data:
        optimizer.zero_grad()
        F.cross_entropy(wrapped.train()(x), y).backward()
        optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def _sharded(data: list[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """Weights spread over both processes, one layer by itself; pruned at the end."""
    model = fresh()
    fully_shard(model.get_submodule("conv1"))
    fully_shard(model)
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    model.attach(optimizer)
    for x, y in data:
        optimizer.zero_grad()
        F.cross_entropy(model.train()(x), y).backward()
        optimizer.step()
    trained = whole(model.get_parameter("conv1.weight").detach()).clone()
    model.finalize()
    reshard(model.modules())
    return {
        "trained": trained,
        "pruned": whole(model.get_parameter("conv1.weight").detach()),
        "masks": masks(model),
        "zeros": sum(row.zeros for row in model.sparsity().pruned),
    }


def _resumed(data: list[tuple[Tensor, Tensor]], folder: Path) -> dict[str, Any]:
    half = _train(data[:STOP])
    if dist.get_rank() == 0:
        torch.save(half, folder / "half.pt")
    dist.barrier()
    return _train(data[STOP:], torch.load(folder / "half.pt", weights_only=True))
