"""Complex numbers: made of two real ones, and taken apart; channels stay where they are.

A constant that is complex is only known if it is zero, which stands for itself as a real number.
"""

from __future__ import annotations

import torch
from torch import Tensor

from campfire_fx.analysis.rules.kinds import Aliases, Kind, Transfer
from campfire_fx.analysis.rules.pointwise import elementwise, pass_on
from campfire_fx.analysis.rules.record import OpRule, register

PARTS = ("real", "imag")
"""Attributes that are a part of a complex tensor."""


def known_zeros(value: Tensor) -> Tensor:
    """Return a complex tensor as a real one: zero where it is zero, else NaN."""
    return torch.zeros(value.shape, dtype=value.real.dtype).masked_fill(value != 0, float("nan"))


PART = OpRule(Kind.PASS, pass_on, Transfer.KEEP, Aliases.VIEW, pads=True)
"""The row of a part of a complex tensor, which is read as an attribute too."""

register(
    PART,
    *(torch.real, torch.imag, torch.conj, "conj", torch.resolve_conj, "resolve_conj"),
)
register(OpRule(Kind.PASS, pass_on, Transfer.KEEP, pads=True), torch.angle, "angle")
register(OpRule(Kind.ELEMENT_WISE, elementwise, Transfer.EXECUTE), torch.complex, torch.polar)
