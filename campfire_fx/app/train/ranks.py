"""The processes of a distributed run, as `torchrun` starts them: who this one is, and what all of them agree on."""

from __future__ import annotations

import gc
import importlib
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from campfire_fx.base.errors import TrainError

T = TypeVar("T")
_CPU = torch.device("cpu")
_PATIENCE = timedelta(hours=2)  # the others wait while the first one exports and verifies


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of the run.

    Attributes:
        rank: 0 up; only 0 writes and prints.
        count: how many there are, on all machines.
        device: where this one computes.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = field(default=_CPU)

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return what averages gradients over all processes; of one, the network itself."""
        if self.count == 1:
            return network
        return DistributedDataParallel(network, device_ids=[self.device] if self.device.type == "cuda" else None)

    def gathered(self, *values: float) -> list[tuple[float, ...]]:
        """Return the values of every process, in the order of ranks; each gives as many."""
        if self.count == 1:
            return [values]
        mine = torch.tensor(values, dtype=torch.float64, device=self.device)
        every = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(every, mine)
        return [tuple(part.tolist()) for part in every]

    def same_state(self, network: nn.Module) -> None:
        """Give every process the first one's buffers: BatchNorm statistics are each process's own in training."""
        if self.count == 1:
            return
        for buffer in network.buffers():
            _broadcast(buffer)

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what `make` returns in the first process; what it raises there is raised in each."""
        if self.count == 1:
            return make()
        told: list[tuple[T | None, Exception | None]] = [(None, None)]
        if self.first:
            try:
                told = [(make(), None)]
            except Exception as error:  # noqa: BLE001  handed to every process, and raised there
                told = [(None, error)]
        dist.broadcast_object_list(told, device=self.device)
        result, failure = told[0]
        if failure is not None:
            raise failure
        return result  # type: ignore[return-value]  # None only where make returned it

    @contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """Run the block in the first process, then in the others, which find what it left in a cache."""
        if self.count > 1 and not self.first:
            dist.barrier()
        yield
        if self.count > 1 and self.first:
            dist.barrier()

    def joined(self, names: list[str]) -> list[str]:
        """Return the names of all processes, each once, sorted."""
        if self.count == 1:
            return names
        gathered: list[list[str]] = [[]] * self.count
        dist.all_gather_object(gathered, names)
        return sorted({name for part in gathered for name in part})


ALONE = Ranks()


def _broadcast(tensor: Tensor) -> None:
    """Send the first process's tensor to all; gloo and nccl know no bool."""
    if tensor.dtype == torch.bool:
        sent = tensor.byte()
        dist.broadcast(sent, 0)
        tensor.copy_(sent.bool())
    else:
        dist.broadcast(tensor.data, 0)


def rank_here() -> int:
    """Return this process's rank as torchrun's environment gives it; 0 where there is none."""
    return int(os.environ.get("RANK", "0"))


@contextmanager
def join_ranks(device: str = "auto") -> Iterator[Ranks]:
    """Join the processes that `torchrun` started; without it, be the only one.

    Args:
        device: "cpu", "cuda", or "auto": cuda where there is one.

    Raises:
        TrainError: there is no such device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainError("--device cuda: PyTorch sees no such device. Give --device cpu.")
    wanted = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    if wanted not in ("cpu", "cuda"):
        raise TrainError(f"--device {device}: it is not known. Give auto, cpu or cuda.")
    count, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device(wanted, local) if wanted == "cuda" else torch.device(wanted)
    if wanted == "cuda":
        torch.cuda.set_device(place)
    if count == 1:
        yield Ranks(device=place)
        return
    with process_group("nccl" if wanted == "cuda" else "gloo", timeout=_PATIENCE):
        yield Ranks(rank_here(), count, place)


@contextmanager
def process_group(backend: str, **options: Any) -> Iterator[None]:
    """Have torch's default group of processes within the block, and nothing of it afterwards.

    A group ends with the last reference to it. One that is still alive when the interpreter is torn down may have a
    thread that lets go of a tensor then, which aborts the process though all its work is done.
    """
    # Its functions have the default group as the default of an argument. Imported within the block, as by
    # DistributedDataParallel, they would keep it for good.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group(backend, **options)
    try:
        yield
    except BaseException as error:
        _forget_locals(error)
        raise
    finally:
        gc.collect()
        dist.destroy_process_group()


def _forget_locals(error: BaseException | None) -> None:
    """Clear the variables of the calls that an error ended: wrapped networks are among them, and hold the group."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
