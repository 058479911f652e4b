"""What the callbacks share: the sparse models inside a module ride on a trainer's optimizers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from campfire_fx.base.errors import CampfireError
from campfire_fx.training.attachment import holds
from campfire_fx.training.model import SparseModel


class Ride:
    """Every SparseModel inside a module, attached to the optimizers that hold its parameters.

    Raises:
        CampfireError: there is no sparse model, or one of which no optimizer holds a parameter.
    """

    def __init__(self, module: nn.Module, optimizers: Sequence[Optimizer]) -> None:
        self._models = {path: part for path, part in module.named_modules() if isinstance(part, SparseModel)}
        if not self._models:
            raise CampfireError(
                f"SparseTraining: the {type(module).__name__} holds no sparse model. "
                "Give it what sparsify returned, in place of the dense one."
            )
        self._handles: list[RemovableHandle] = []
        for path, model in self._models.items():
            holding = [optimizer for optimizer in optimizers if holds(optimizer, model)]
            if not holding:
                raise CampfireError(
                    f"SparseTraining: no optimizer holds a parameter of the sparse model at '{path}'. "
                    "Build the optimizer from the parameters of the model that holds it."
                )
            self._handles += [model.attach(optimizer) for optimizer in holding]

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

    def end(self) -> None:
        """Detach."""
        for handle in self._handles:
            handle.remove()
