"""Attachment: masks and schedule ride on `optimizer.step()`."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from campfire_fx.errors import RegimeError


@dataclass(frozen=True, slots=True)
class Attachment:
    """One optimizer that the masks ride on. `counts`: its steps move the schedule."""

    optimizer: weakref.ref[Optimizer]
    handle: RemovableHandle
    counts: bool


def check_attachment(
    model: nn.Module, optimizer: Optimizer, steps_per_epoch: int | None, others: Sequence[Attachment]
) -> None:
    """Raise a RegimeError if an optimizer cannot be attached to a sparse model."""
    ours = {id(p) for p in model.parameters()}
    if not any(id(p) in ours for group in optimizer.param_groups for p in group["params"]):
        raise RegimeError(
            f"attach: the {type(optimizer).__name__} holds no parameter of this sparse model. "
            "Build it from the parameters() of the model that sparsify returned."
        )
    if steps_per_epoch is None:
        return
    if type(steps_per_epoch) is not int or steps_per_epoch < 1:
        raise RegimeError(f"attach: steps_per_epoch={steps_per_epoch!r} is not a count. Give len(loader), or None.")
    if any(other.counts and other.optimizer() is not None for other in others):
        raise RegimeError(
            "attach: the steps of another optimizer are counted already. Give steps_per_epoch to one of them only."
        )


def after_step(model: weakref.ref[Any], counts: bool) -> Callable[..., None]:
    """Return an optimizer's step post hook; it does not keep the model alive."""

    def hook(_optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        sparse = model()
        if sparse is not None:
            sparse._after_step(counts)

    return hook
