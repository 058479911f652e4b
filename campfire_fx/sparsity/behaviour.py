"""Behaviour: what a rule, a schedule or a method does, so that a checkpoint can tell whether it fits a model.

Names say little: a function may be renamed, and all lambdas share one. So rules are run on a weight that is made by
arithmetic, the same everywhere, and what they keep of it is compared.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from campfire_fx.sparsity.chance import alone
from campfire_fx.sparsity.method import Method
from campfire_fx.sparsity.over_layers import scope_over_layers
from campfire_fx.sparsity.schedule import Schedule, aim
from campfire_fx.sparsity.selection import Goal, Rule

logger = logging.getLogger(__name__)

_SHAPE = (8, 32, 9)  # filters, channels of each, and positions of their kernels
_GOALS = (Goal(0.15, 0.8), Goal(0.37, 0.8), Goal(0.8, 0.8))
_SAMPLES = 8  # epochs of an era
_PLAIN = (bool, int, float, str, type(None))


def of_rule(rule: Rule) -> str:
    """Return what a rule keeps of a fixed weight, for several sparsities.

    Of a rule that draws at random it is how many weights it keeps; of one that fails, nothing. What a scope over layers
    makes of several is told by its name.
    """
    size = prod(_SHAPE)
    order = torch.arange(size, dtype=torch.float64, device="cpu")
    weight = (order * 7919 % size + 1) * (1 - 2 * (order % 3 == 0).double())  # whole numbers: sums are exact
    weight = (weight / 2 ** size.bit_length()).view(_SHAPE)
    mask = (order % 11 != 0).view(weight.shape)
    scope = scope_over_layers(rule)
    within = _run(lambda: torch.stack([rule(weight * mask, mask, goal) for goal in _GOALS]))
    return within if scope is None else f"{within} over {scope.name}"


def of_method(method: Method) -> dict[str, Any]:
    """Return the name, version and numbers of a method, and what its functions do."""
    return {
        "name": method.name,
        "version": method.version,
        "numbers": numbers(method),
        "does": _run(method.behaviour),
    }


def of_schedule(schedule: Schedule) -> list[float]:
    """Return the parts of the final sparsity that are due, and aimed at, from before an era to after it."""
    start, length = schedule.start, schedule.end - schedule.start
    epochs = [max(0, start - 1), *(start + length * i // _SAMPLES for i in range(_SAMPLES + 1)), schedule.end + 1]
    return [round(part, 6) for epoch in epochs for part in (schedule.fraction(epoch), aim(schedule, epoch))]


def numbers(record: Any) -> dict[str, Any]:
    """Return the numbers and words in a record by name, of records in it too; functions are left out."""
    found: dict[str, Any] = {}
    for field in fields(record) if is_dataclass(record) else ():
        value = getattr(record, field.name)
        if isinstance(value, _PLAIN):
            found[field.name] = value
        elif isinstance(value, (tuple, list)) and all(isinstance(item, _PLAIN) for item in value):
            found[field.name] = list(value)
        elif is_dataclass(value):
            found |= {f"{field.name}.{name}": number for name, number in numbers(value).items()}
    return found


@torch.no_grad()
def _run(function: Callable[[], Tensor | None]) -> str:
    with alone(seed=0), torch.device("cpu"):
        before = torch.get_rng_state()
        try:
            masks = function()
        except Exception:  # of a user's function that fits no weight but its own
            logger.debug("cannot be run on a fixed weight", exc_info=True)
            return ""
        if masks is None:
            return ""
        if not torch.equal(torch.get_rng_state(), before):
            return f"at random: {int(masks.sum())}"
    return f"{zlib.crc32(bytes(masks.flatten().tolist())):08x}"
