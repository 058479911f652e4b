"""What is allocated: the most within a call, and what lies there between calls."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler tells of itself on the terminal


def peak_within(call: Callable[[], object], device: str = "cpu") -> int:
    """Return the most bytes that were allocated in a call above what there was before it.

    On a CPU it is what PyTorch's allocator gave out, and not what oneDNN takes for itself within an operation.
    """
    gc.collect()
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - start
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    events = [event for event in cast(Any, seen.profiler).kineto_results.events() if event.name() == "[memory]"]
    level = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        level += event.nbytes()
        highest = max(highest, level)
    return highest


def bytes_alive() -> int:
    """Return the bytes of all tensors that Python holds, each storage once."""
    gc.collect()
    kinds = (torch.Tensor, nn.Parameter)  # those of other kinds need not have memory
    storages = [thing.untyped_storage() for thing in gc.get_objects() if type(thing) in kinds]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
