"""Sharded tensors: what of a weight lies on this rank, when FSDP2 (`fully_shard`) has spread the model over several.

A mask is small and stays whole on every rank; the weight, its gradient and its optimizer state are DTensors. All
that is done after a step is element by element, so each rank does it to the part it holds and no rank waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn


def is_sharded(tensor: Tensor) -> bool:
    """Say whether a tensor is a DTensor."""
    return hasattr(tensor, "device_mesh")


def local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this rank holds, as a view; the tensor itself where it is not sharded."""
    return cast(Any, tensor).to_local() if is_sharded(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor. Every rank must ask where it is sharded: it is gathered."""
    return cast(Any, tensor).full_tensor() if is_sharded(tensor) else tensor


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """Return what this rank holds of a tensor that lies whole on every rank, cut as `like` is; nothing is sent."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = cast(Any, like).device_mesh, cast(Any, like).placements
    return distribute_tensor(tensor, mesh, placements, src_data_rank=None).to_local()


def reshard(modules: Iterable[nn.Module]) -> None:
    """Put sharded parameters back in place, where an evaluation has left gathered copies of them.

    What is written to a gathered copy is lost when it is dropped.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    from torch.distributed.fsdp import FSDPModule

    for module in modules:
        if isinstance(module, FSDPModule):
            module.reshard()
