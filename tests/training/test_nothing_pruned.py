"""No regime ends without a zero and says nothing about it."""

from __future__ import annotations

import logging

import pytest
import torch

from campfire_fx.sparsity.regimes import REGIMES, nothing_pruned
from tests.sparse_training import batch_loss, batches, sparse

DATA = batches(2)


@pytest.mark.parametrize("regime", REGIMES)
def test_a_regime_prunes_or_says_what_would(regime: str, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    model = sparse(regime)
    if model._life_cycle.gathering:
        model.gather(batch_loss, DATA)
    with caplog.at_level(logging.WARNING):
        model.finalize()
    assert (model.sparsity().true > 0) != (f"regime '{regime}' has pruned nothing. Give " in caplog.text)


def test_it_names_what_the_regime_takes() -> None:
    assert nothing_pruned("prune-train") == (
        "regime 'prune-train' has pruned nothing. Give a larger strength (it has 0.5) or a larger threshold (it has"
        " 0.0001)."
    )
    assert nothing_pruned("2:4") == "regime '2:4' has pruned nothing. Give another sparsity or regime."
