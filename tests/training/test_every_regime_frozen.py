"""What is frozen does not move, to the bit, whatever the regime does to the rest."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.sparse_training import OPTIMIZERS, SETTINGS, batch_loss, sparse
from tests.training.every_regime import DATA, STEPS

FROZEN = ("stem", "conv1", "bn1")
MOVING = (
    *("admm-filter", "channel to a target", "deepr", "dsr", "greg", "lottery-ticket", "prune-train", "rigl", "sfp"),
    *("sparse-structure", "sr-ste", "ssl", "swat-m", "thinet"),
)
"""Regimes that move weights by other means than the optimizer's step, of each kind one."""
POSSIBLE: dict[str, dict[str, Any]] = {"channel to a target": {"target": {"macs": 0.96}}}


@pytest.mark.parametrize("regime", MOVING)
def test_frozen_layers_stay_as_they_are(regime: str) -> None:
    """The optimizer holds them, with momentum and weight decay; their norm is in evaluation mode."""
    possible = POSSIBLE.get(regime, SETTINGS.get(regime, {}))
    model = sparse(regime, frozen=FROZEN, **{name: value for name, value in possible.items() if name != "regime"})
    before = {name: value.clone() for name, value in model.state_dict().items() if name.startswith(FROZEN)}
    first = model.state_dict()["point.weight"].clone()
    optimizer = OPTIMIZERS["nesterov"](model.parameters())
    for path in FROZEN:
        model.get_submodule(path).requires_grad_(False)
    model.attach(optimizer, steps_per_epoch=STEPS)
    for x, y in DATA:
        model.train()
        model.bn1.eval()
        optimizer.zero_grad()
        batch_loss(model, (x, y)).backward()
        optimizer.step()
    model.finalize()
    after = model.state_dict()
    assert before and all(torch.equal(after[name], value) for name, value in before.items())
    assert not torch.equal(after["point.weight"], first)
    assert "it is frozen" in next(row.reason for row in model.sparsity().layers if row.name == "conv1")
