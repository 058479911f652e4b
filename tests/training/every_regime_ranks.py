"""What each of two processes does in the tests of every regime on several, and what one does by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tests.distributed_training import PER_EPOCH, STEPS, fresh, group, sgd, steps
from tests.sparse_training import batches, masks
from tests.training.every_regime import MECHANISMS

SMALLER = ("channel to a target", "channel by gradients", "channel-combined")
DATA = [(x.double(), y) for x, y in batches(STEPS)]  # the wider the type, the closer "equal to rounding"


def run_rank(rank: int, folder: str) -> None:
    """Take part as one of the processes in a run of every regime."""
    with group(rank, folder) as share:
        found = {regime: trained(regime, share) for regime in MECHANISMS}
        found |= {f"{regime}, made smaller": made_smaller(regime, share) for regime in SMALLER}
        torch.save(found, Path(folder) / f"{rank}.pt")


def trained(regime: str, share: slice | None = None) -> dict[str, Any]:
    """Train on a share of every batch, together with the other processes, or on all of it, alone."""
    model = fresh(regime).double()
    before = _weights(model)
    run = model if share is None else DistributedDataParallel(model)
    optimizer = sgd(run)
    model.attach(optimizer, steps_per_epoch=PER_EPOCH)
    steps(run, optimizer, DATA, share or slice(None))
    moved = [float((weight - before[name]).abs().max()) for name, weight in _weights(model).items()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return {
        "moved": min(moved),
        "state": state,
        "masks": masks(model),
        "final": masks(model.finalize()),
    }


def made_smaller(regime: str, share: slice | None = None) -> dict[str, Any]:
    """Train as `trained` does, in a smaller model from the middle of the era on."""
    model = fresh(regime).double()
    run = model if share is None else DistributedDataParallel(model)
    optimizer = sgd(run)
    model.attach(optimizer, steps_per_epoch=PER_EPOCH)
    steps(run, optimizer, DATA[:8], share or slice(None))
    model = model.reconfigure(optimizer)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda norm, _inputs: norm.eval() and None)
    run = model if share is None else DistributedDataParallel(model)
    steps(run, optimizer, DATA[8:], share or slice(None))
    return {"state": model.state_dict(), "left": [cost.now for cost in model.sparsity().costs]}


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters() if name.endswith("weight")}
