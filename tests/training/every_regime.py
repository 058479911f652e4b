"""The regimes of the table, by name, and a short training with one of them: what its battery of tests has in common."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from campfire_fx.sparsity.regimes import REGIMES
from campfire_fx.training.model import SparseModel
from tests.sparse_training import OPTIMIZERS, SETTINGS, batches, sparse, train

NAMES = sorted((REGIMES.keys() - {"n:m"}) | {"2:4"} | SETTINGS.keys())
STEPS = 3  # per epoch
DATA = batches(20)
every_regime = pytest.mark.parametrize("regime", NAMES)

# Regimes that have the method of another, and differ in a rule or a number: what is slow is tried with the other alone.
ALIKE = {
    "gradual-magnitude": "unstructured",
    "lamp": "global-magnitude",
    "l1-channels": "channel",
    "fpgm": "channel",
    "taylor": "channel by gradients",
    "network-slimming": "ssl",
    "dsr-kernel": "dsr",
    "deep-compression": "lottery-ticket",
    "lasso-channels": "thinet",
    "pfa-kl": "pfa",
}
MECHANISMS = [name for name in NAMES if name not in ALIKE]
every_mechanism = pytest.mark.parametrize("regime", MECHANISMS)


def trained(
    regime: str, data: list[tuple[Tensor, Tensor]] = DATA, **wishes: Any
) -> tuple[SparseModel, torch.optim.Optimizer]:
    model = sparse(regime, **wishes)
    optimizer = OPTIMIZERS["nesterov"](model.parameters())
    model.attach(optimizer, steps_per_epoch=STEPS)
    for _ in train(model, optimizer, data):
        pass
    return model, optimizer
