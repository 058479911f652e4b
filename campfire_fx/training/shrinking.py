"""What is particular about shrinking a sparse model: when it is refused, and what the report says of the training."""

from __future__ import annotations

import logging

from torch import nn
from torch.optim import Optimizer

from campfire_fx.base.errors import ShrinkError
from campfire_fx.base.sharding import is_sharded
from campfire_fx.cost.measure import parameters
from campfire_fx.sparsity.entry import GAINS, HARDLY_SMALLER
from campfire_fx.sparsity.record import SparsityRecord
from campfire_fx.sparsity.regimes import ENTRIES

logger = logging.getLogger(__name__)


def check_shrinkable(
    model: nn.Module, optimizer: Optimizer | None, record: SparsityRecord, *, trains_masked: bool
) -> None:
    """Raise a ShrinkError where the weights of a sparse model are spread over processes, or some would be lost.

    Masks that are not final are warned of, unless training goes on with the optimizer.
    """
    if any(map(is_sharded, model.parameters())):
        raise ShrinkError(
            "shrink: the weights of this model are spread over processes. "
            "Load its full state_dict into a model that sparsify has made in one process, and shrink that."
        )
    if optimizer is not None and trains_masked:
        raise ShrinkError(
            "shrink: with an optimizer the weights under the masks would be lost while they still train. "
            "Call finalize() first."
        )
    if not (record.frozen or optimizer is not None):
        logger.warning("shrink: %s", record.standing)


def remarks(record: SparsityRecord, slim: nn.Module) -> tuple[str, ...]:
    """Return how far the schedule of a sparse model came, and where it hardly shrank what its zeros are for."""
    entry = ENTRIES.get(record.regime) or next((e for e in ENTRIES.values() if e.example == record.regime), None)
    told = [record.standing]
    if entry and parameters(slim) > HARDLY_SMALLER * record.parameters:
        if entry.gains != "channels":
            told.append(f"What regime '{record.regime}' is for: {GAINS[entry.gains].replace('`', '')}.")
        elif not record.standing:
            told.append("Channels that reconfigure() removed before are not counted here.")
    return tuple(filter(None, told))
