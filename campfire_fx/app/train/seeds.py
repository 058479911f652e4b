"""Seeds: one number for what is drawn at one place, so that nothing depends on what was drawn before it."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def mixed(*numbers: int) -> int:
    """Return one seed, in [0, 2**63), for several whole numbers; other numbers give others, by all likelihood."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed every generator that a network may draw from, anew for each step.

    So what is drawn in a step depends on nothing before it, and a resumed run needs no generator's state.
    """
    number = mixed(seed, step, rank)
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)
