"""Chance: numbers drawn at random, from torch's generator, on which all processes of a run agree."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


def agreed_generator() -> torch.Generator:
    """Return a generator on the CPU with a seed drawn from torch's own: `torch.manual_seed` decides what it gives.

    Of several processes, whatever their seeds, all get the first one's; so each of them must ask, and as often.
    """
    drawn: list[Any] = [int(torch.randint(2**63 - 1, ()))]
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.broadcast_object_list(drawn, src=0)
    return torch.Generator().manual_seed(drawn[0])
