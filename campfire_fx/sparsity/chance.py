"""Chance: numbers drawn at random, from torch's generator, on which all processes of a run agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist

_alone = ContextVar("alone", default=False)


def agreed_generator() -> torch.Generator:
    """Return a generator on the CPU with a seed drawn from torch's own: `torch.manual_seed` decides what it gives.

    Of several processes, whatever their seeds, all get the first one's; so each of them must ask, and as often.
    """
    drawn: list[Any] = [int(torch.randint(2**63 - 1, ()))]
    if not _alone.get() and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.broadcast_object_list(drawn, src=0)
    return torch.Generator().manual_seed(drawn[0])


def seeded(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator with a seed; processes agree on what it gives where their devices are of one kind."""
    return torch.Generator(device).manual_seed(seed)


@contextmanager
def alone(seed: int) -> Iterator[None]:
    """Let this process draw by itself for a while, from a seed; torch's generator goes on as if nothing was drawn."""
    token = _alone.set(True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        _alone.reset(token)
