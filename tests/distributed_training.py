"""Two processes, and what each does in the tests of distributed training; what it found goes into a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, AdamW, Optimizer

from campfire_fx.app.train.ranks import process_group
from campfire_fx.base.errors import ShrinkError
from campfire_fx.base.sharding import local, reshard, whole
from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import IMAGE, Net, batches, gathered, masks, wished

RANKS = 2
STEPS = 12
PER_EPOCH = 3
Make = Callable[[nn.Module], Optimizer]


def start(run: Callable[[int, str], None], folder: Path) -> list[dict[str, Any]]:
    """Run a function in RANKS processes, and read the file that each of them leaves in the folder."""
    torch.multiprocessing.spawn(run, (str(folder),), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


@contextmanager
def group(rank: int, folder: str) -> Iterator[slice]:
    """Be one of RANKS processes; hands over this one's share of a batch."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    rendezvous = f"file://{folder}/rendezvous"
    waiting = timedelta(seconds=120)
    with process_group("gloo", init_method=rendezvous, rank=rank, world_size=RANKS, timeout=waiting):
        yield slice(2 * rank, 2 * rank + 2)


def sgd(model: nn.Module) -> Optimizer:
    return SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)


def adamw(model: nn.Module) -> Optimizer:
    return AdamW(model.parameters(), 1e-2)


def fresh(regime: str = "combined") -> SparseModel:
    """A sparse model whose BatchNorms run in evaluation mode, so that no result depends on how a batch is cut."""
    torch.manual_seed(3)
    model = gathered(sparsify(Net(), era=(1, 4), example_inputs=IMAGE, **wished(regime)))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda norm, _inputs: norm.eval() and None)
    return model


def steps(
    model: nn.Module,
    optimizer: Optimizer,
    data: list[tuple[Tensor, Tensor]],
    share: slice,
    begin: Callable[[int], None] = lambda _epoch: None,
) -> None:
    """Train on a share of each batch, gradients clipped, with an evaluation after each epoch."""
    for index, (x, y) in enumerate(data):
        if index % PER_EPOCH == 0:
            begin(index // PER_EPOCH)
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(x[share]), y[share]).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (index + 1) % PER_EPOCH == 0:
            with torch.no_grad():
                model.eval()(x)


def alone(make: Make, regime: str = "combined") -> tuple[SparseModel, Optimizer]:
    """The run of one process, with whole batches."""
    model = fresh(regime)
    optimizer = make(model)
    model.attach(optimizer, steps_per_epoch=PER_EPOCH)
    steps(model, optimizer, batches(STEPS), slice(None))
    return model, optimizer


def run_rank(rank: int, folder: str) -> None:
    """Take part as one of RANKS processes in every run."""
    with group(rank, folder) as share:
        found = {
            "ddp": _replicated(share),
            "fsdp-sgd": _sharded(sgd, share),
            "fsdp-adamw": _sharded(adamw, share),
            "resumed": _resumed(share, rank),
            "by-hand": _sharded(sgd, share, by_hand=True),
            "filter": _sharded(sgd, share, "filter"),
            "channel": _sharded(sgd, share, "channel to a target"),
            "channel-taylor": _sharded(sgd, share, "channel by gradients"),
            "admm": _sharded(sgd, share, "admm-filter"),
            "ddp-admm": _replicated(share, "admm-filter"),
            "exchange": _sharded(sgd, share, "rigl"),
            "penalty": _sharded(sgd, share, "ssl"),
            "proximal": _sharded(sgd, share, "sparse-structure"),
            "growing": _sharded(sgd, share, "greg"),
            "chance": _drawn(rank),
        }
        torch.save(found, Path(folder) / f"{rank}.pt")


def _replicated(share: slice, regime: str = "combined") -> dict[str, Any]:
    model = fresh(regime)
    wrapped = DistributedDataParallel(model)
    optimizer = sgd(wrapped)
    model.attach(optimizer, steps_per_epoch=PER_EPOCH)
    steps(wrapped, optimizer, batches(STEPS), share)
    sent = [tuple(buffer.shape) for buffer in wrapped.modules_buffers]
    return {"state": model.state_dict(), "masks": masks(model), "sent": sent}


def _drawn(rank: int) -> dict[str, Any]:
    """The first masks of RigL, where every process has a seed of its own."""
    model = fresh("rigl")
    torch.manual_seed(100 + rank)
    model.attach(sgd(model), steps_per_epoch=PER_EPOCH)
    return {"masks": masks(model), "next": torch.rand(())}


def _shard(model: SparseModel) -> None:
    """One layer by itself, two together, the rest with the root, on a mesh of all ranks."""
    mesh = dist.device_mesh.init_device_mesh("cpu", (RANKS,))
    fully_shard(model.get_submodule("conv1"), mesh=mesh)
    fully_shard([model.get_submodule(name) for name in ("point", "fc")], mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert isinstance(model, FSDPModule)


def _sharded(make: Make, share: slice, regime: str = "combined", *, by_hand: bool = False) -> dict[str, Any]:
    model = fresh(regime)
    _shard(model)
    optimizer = make(model)
    if by_hand:  # right after an evaluation, when gathered copies of the weights are still in place
        model.attach(optimizer)
        steps(model, optimizer, batches(STEPS), share, model.epoch)
        model.epoch(STEPS // PER_EPOCH)
    else:
        model.attach(optimizer, steps_per_epoch=PER_EPOCH)
        steps(model, optimizer, batches(STEPS), share)
    return _facts(model, optimizer)


def _resumed(share: slice, rank: int) -> dict[str, Any]:
    """A sharded run, stopped in mid-era, its whole state loaded into another sharded model, and ended there."""
    data, stop = batches(STEPS), 7
    model = fresh()
    _shard(model)
    optimizer = sgd(model)
    model.attach(optimizer, steps_per_epoch=PER_EPOCH)
    steps(model, optimizer, data[:stop], share)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=False)
    saved = get_model_state_dict(model, options=options)
    second = fresh()
    for parameter in second.parameters():
        nn.init.ones_(parameter)
    _shard(second)
    set_model_state_dict(second, saved, options=options)
    again = sgd(second)
    again.load_state_dict(optimizer.state_dict())
    second.attach(again, steps_per_epoch=PER_EPOCH)
    steps(second, again, data[stop:], share)
    return _facts(second, again)


def _facts(model: SparseModel, optimizer: Optimizer) -> dict[str, Any]:
    reshard(model.modules())
    dead = {}
    for name, mask in masks(model).items():
        weight = model.get_parameter(f"{name.removesuffix('mask')}weight")
        values = [weight.detach(), *(v for v in optimizer.state[weight].values() if v.shape == weight.shape)]
        dead[name] = [int(whole(value)[~mask].count_nonzero()) for value in values]
    try:
        model.shrink()
        refused = ""
    except ShrinkError as error:
        refused = str(error)
    return {
        "state": get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)),
        "masks": masks(model),
        "dead": dead,
        "here": sum(local(p).numel() for p in model.parameters()),
        "rows": [(row.name, row.operation, row.zeros) for row in model.sparsity().layers],
        "refused": refused,
    }
