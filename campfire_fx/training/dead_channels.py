"""Dead channels of coupled layers: what of norms, biases and scales is zeroed with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from campfire_fx.base.compat import writes_to
from campfire_fx.base.sharding import part_of
from campfire_fx.base.zeroing import selector
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.sparsity.channels.coupling import Alive, CoupledLayer, Coupling, lives
from campfire_fx.sparsity.channels.layers import living


@dataclass(slots=True)
class DeadChannels:
    """Finds what must be zero where coupled groups are dead. Masks are looked at again only when they have moved."""

    _form: tuple[int, ...] = ()
    _kept: tuple[tuple[str, Tensor], ...] = ()

    def entries(self, model: nn.Module, coupling: Coupling) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (tensor, factor of 0 and 1) for each vector with entries of dead channels."""
        form = tuple(writes_to(layer.mask) for _, layer in _masked(model, coupling))
        if form != self._form:
            alive = living_groups(model, coupling)
            vectors = [(v.name, lives(v.groups, alive)) for v in coupling.vectors if v.zeroed]
            self._kept = tuple((name, torch.from_numpy(kept)) for name, kept in vectors if not kept.all())
            self._form = form
        for name, kept in self._kept:
            tensor = _tensor(model, name)
            yield tensor, part_of(selector(kept.to(tensor.device), tensor), tensor)


def living_groups(model: nn.Module, coupling: Coupling) -> Alive:
    """Return which groups live by the masks of a model, (groups,)."""
    return living(_masked(model, coupling), coupling)


def _masked(model: nn.Module, coupling: Coupling) -> list[tuple[CoupledLayer, MaskedLayer]]:
    pairs = ((coupled, model.get_submodule(coupled.path)) for coupled in coupling.layers if coupled.masked)
    return [(coupled, layer) for coupled, layer in pairs if isinstance(layer, MaskedLayer)]


def _tensor(model: nn.Module, name: str) -> Tensor:
    path, _, last = name.rpartition(".")
    tensor = getattr(model.get_submodule(path), last)
    assert isinstance(tensor, Tensor)
    return tensor
