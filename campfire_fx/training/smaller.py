"""Training that gets cheaper as it goes: a sparse network is made smaller between epochs, where that pays."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from campfire_fx.sparsity.record import SparsityRecord
from campfire_fx.training.model import SparseModel

_WORTH = 0.9  # of the multiply-accumulates at the last time: each time takes seconds, and a checkpoint grows by it


class Smaller:
    """When a network is made smaller, and what it was before each time: from that, a resumed run makes it again.

    Attributes:
        snapshots: the network's `state_dict` before each time.
    """

    def __init__(self, network: SparseModel) -> None:
        self.snapshots: list[dict[str, Any]] = []
        self._last = _size(network.sparsity())

    def pays(self, network: nn.Module) -> bool:
        """Say whether enough has died since the last time, and no mask is in the way."""
        if not isinstance(network, SparseModel):
            return False
        return network.can_reconfigure and _size(network.sparsity()) <= _WORTH * self._last

    def made(self, network: nn.Module, optimizer: Optimizer) -> SparseModel:
        """Return the smaller network, to which the optimizer has gone over."""
        assert isinstance(network, SparseModel)
        self.snapshots.append({name: _kept(value) for name, value in network.state_dict().items()})
        self._last = _size(network.sparsity())
        return network.reconfigure(optimizer)

    def again(self, network: nn.Module, optimizer: Optimizer, snapshots: list[dict[str, Any]]) -> SparseModel:
        """Return what became of a network in the training that the snapshots are of."""
        assert isinstance(network, SparseModel)
        for snapshot in snapshots:
            network.load_state_dict(snapshot)
            network = self.made(network, optimizer)
        return network


def made_again(network: SparseModel, snapshots: list[dict[str, Any]], smaller: Smaller | None = None) -> SparseModel:
    """Return what a new network becomes in the training that the snapshots are of; without its last weights."""
    return (smaller or Smaller(network)).again(network, SGD(network.parameters(), lr=0.0), snapshots)


def _kept(value: Any) -> Any:
    return value.detach().cpu().clone() if isinstance(value, Tensor) else value


def _size(record: SparsityRecord) -> float:
    """Return what the slim network would cost, as a part of the dense one; of other regimes, what filters are left."""
    for cost in record.costs:
        if cost.name == "macs":
            return cost.now
    filters = sum(layer.filters for layer in record.layers)
    return 1 - sum(layer.dead_filters for layer in record.layers) / max(1, filters)
