"""Gathering: scores from data of a model that is not trained, from the gradients of a few batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.base.errors import RegimeError
from campfire_fx.training.life_cycle import LifeCycle


@torch.inference_mode(mode=False)
def gather(model: nn.Module, cycle: LifeCycle, loss_fn: Callable[[Any, Any], Tensor], batches: Iterable[Any]) -> None:
    """Let methods see the gradients of batches as they see those of training steps; the model stays as it is.

    Raises:
        RegimeError: no method asks for data, or it got none.
    """
    if not cycle.gathers:
        raise RegimeError("gather: this regime's score needs no data. Call finalize(), or choose score='taylor'.")
    modes = {module: module.training for module in model.modules()}
    kept = {parameter: parameter.grad for parameter in model.parameters()}
    seen = 0
    try:
        model.eval()
        for batch in batches:
            for parameter in kept:
                parameter.grad = None
            with torch.enable_grad():
                loss_fn(model, batch).backward()
            cycle.before_step(model, kept)
            seen += 1
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, gradient in kept.items():
            parameter.grad = gradient
    if not seen:
        raise RegimeError("gather: there was no batch. Give a loader that yields some.")
