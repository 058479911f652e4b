"""SWAT on two processes: the same masks on both, a run that resumes from the first one's state, sharded weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.distributed_training import start
from tests.sparse_training import assert_same_state
from tests.training.swat_ranks import run_rank


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
def test_ranks_agree_and_resume_bit_for_bit(tmp_path: Path) -> None:
    first, second = start(run_rank, tmp_path)
    for name, value in first["whole"]["model"].items():
        if name.endswith(("weight", "bias", "mask", "weight_threshold", "_extra_state")):
            assert torch.equal(value, second["whole"]["model"][name]), name
    assert_same_state(first["resumed"], first["whole"])
    assert_same_state(first["sharded"], second["sharded"])
    sharded = first["sharded"]
    mask = sharded["masks"]["conv1.mask"]
    assert 0 < mask.sum() < mask.numel() and bool((sharded["trained"] != 0).all())
    assert torch.equal(sharded["pruned"], sharded["trained"] * mask)
