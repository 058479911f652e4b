"""Copies of a model to work on, and how they come to own their memory.

Most weights are cut soon after the copy is made, so the working copy only borrows its parameters; those that were
not replaced by smaller ones in the end are copied then.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from campfire_fx.base.compat import hooks_before, parameters_of
from campfire_fx.base.copies import plain_copy, private_copy

__all__ = ["borrowing_copy", "own_parameters", "private_copy"]


def borrowing_copy(model: nn.Module) -> nn.Module:
    """Copy a model but for its parameters, which stay the model's own; they must not be written to.

    Where a class copies in a way of its own, parameters are computed, or a hook might write to them, it is a
    `private_copy`.
    """
    if any(hooks_before(module) for module in model.modules()):
        return private_copy(model)
    return plain_copy(model, borrow=True) or private_copy(model)


def own_parameters(model: nn.Module, lender: nn.Module) -> dict[int, Tensor]:
    """Copy the parameters that a model still borrows, in place; returns the copies by the id of the lender's."""
    borrowed = {id(parameter) for parameter in lender.parameters()}
    memo: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in parameters_of(module).items():
            if parameter is not None and id(parameter) in borrowed:
                parameters_of(module)[name] = copy.deepcopy(parameter, memo)
    return {key: memo[key] for key in borrowed & memo.keys()}
