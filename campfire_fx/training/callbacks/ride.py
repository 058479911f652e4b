"""What the callbacks share: the sparse models inside a module ride on a trainer's optimizers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from campfire_fx.base.errors import CampfireError
from campfire_fx.sparsity.schedule import not_over
from campfire_fx.training.attachment import holds
from campfire_fx.training.model import SparseModel
from campfire_fx.training.smaller import Smaller, made_again

logger = logging.getLogger(__name__)

Snapshots = Mapping[str, list[dict[str, Any]]]
"""For each sparse model by path its `state_dict` before each time that it was made smaller."""


class Ride:
    """Every SparseModel inside a module, attached to the optimizers that hold its parameters.

    Args:
        module: in it the sparse models lie.
        optimizers: of the trainer.
        smaller: what `watch` returned of the same module: what `reconfigure` makes smaller.
        epochs: of the training, where that is known; an era that leaves none to recover is warned of.

    Raises:
        CampfireError: there is no sparse model, or one of which no optimizer holds a parameter.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizers: Sequence[Optimizer],
        smaller: dict[str, Smaller] | None = None,
        *,
        epochs: int | None = None,
    ) -> None:
        self._module = module
        self._models = dict(_sparse_models(module))
        if not self._models:
            raise CampfireError(
                f"SparseTraining: the {type(module).__name__} holds no sparse model. "
                "Give it what sparsify returned, in place of the dense one."
            )
        self._held: dict[str, list[Optimizer]] = {}
        self._handles: dict[str, list[RemovableHandle]] = {}
        for path, model in self._models.items():
            holding = [optimizer for optimizer in optimizers if holds(optimizer, model)]
            if not holding:
                raise CampfireError(
                    f"SparseTraining: no optimizer holds a parameter of the sparse model at '{path}'. "
                    "Build the optimizer from the parameters of the model that holds it."
                )
            if epochs is not None and (late := not_over(model.sparsity().era, epochs)):
                logger.warning("SparseTraining: %s. Give sparsify an earlier era, or train longer.", late)
            self._held[path] = holding
            self._attach(path)
        self._smaller = smaller or {}

    def epoch(self, epoch: int) -> dict[str, float]:
        """Begin an epoch; return target and true sparsity by name, after the model's path if there are several.

        Every process of a distributed run must call it.
        """
        numbers: dict[str, float] = {}
        for path, model in self._models.items():
            model.epoch(epoch)
            record = model.sparsity()
            before = f"{path}." if len(self._models) > 1 else ""
            numbers |= {f"{before}sparsity": record.true, f"{before}target_sparsity": record.target}
        return numbers

    def reconfigure(self) -> None:
        """Put a smaller model in the place of each of which enough has died; before an epoch begins.

        Raises:
            CampfireError: several optimizers hold the parameters of such a model.
        """
        for path, smaller in self._smaller.items():
            if not smaller.pays(self._models[path]):
                continue
            if len(self._held[path]) > 1:
                raise CampfireError(
                    f"SparseTraining(reconfigure=True): {len(self._held[path])} optimizers hold parameters of the"
                    f" sparse model at '{path}', and only one can go over to a smaller model. Give all of them to one."
                )
            self._detach(path)
            self._models[path] = smaller.made(self._models[path], self._held[path][0])
            self._module.set_submodule(path, self._models[path])
            self._attach(path)

    def end(self) -> None:
        """Detach."""
        for path in self._models:
            self._detach(path)

    def _attach(self, path: str) -> None:
        self._handles[path] = [self._models[path].attach(optimizer) for optimizer in self._held[path]]

    def _detach(self, path: str) -> None:
        for handle in self._handles.pop(path):
            handle.remove()


def watch(module: nn.Module, snapshots: Snapshots) -> dict[str, Smaller]:
    """Return for each sparse model in a new module, by path, when it is made smaller.

    Args:
        module: before a checkpoint is loaded.
        snapshots: of the training that goes on: the models are made as small as they had become, in place.

    Raises:
        CampfireError: the snapshots are of another module, or a sparse model cannot be exchanged for a smaller one.
    """
    models = dict(_sparse_models(module))
    if "" in models:
        raise CampfireError(
            "SparseTraining(reconfigure=True): the trainer's model is itself the sparse model, and a callback cannot "
            "give a trainer another. Make it a part of a module, and give the trainer that."
        )
    smaller = {path: Smaller(model) for path, model in models.items()}
    for path, taken in snapshots.items():
        if path not in models:
            raise CampfireError(
                f"The checkpoint holds a sparse model at '{path}', the {type(module).__name__} none. "
                "Build the same module as before, with what sparsify returns."
            )
        module.set_submodule(path, made_again(models[path], taken, smaller[path]))
    return smaller


def snapshots_of(smaller: Mapping[str, Smaller]) -> dict[str, list[dict[str, Any]]]:
    """Return what a checkpoint must hold for `watch`."""
    return {path: one.snapshots for path, one in smaller.items() if one.snapshots}


def _sparse_models(module: nn.Module) -> Iterator[tuple[str, SparseModel]]:
    for path, part in module.named_modules():
        if isinstance(part, SparseModel):
            yield path, part
