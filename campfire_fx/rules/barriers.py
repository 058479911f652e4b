"""What is not understood: every channel that enters is pinned, every channel that leaves is fixed."""

from __future__ import annotations

from typing import Any

import torch

from campfire_fx.rules.record import Call, Constant, Rule, map_nested
from campfire_fx.rules.structure import fixed


def barrier(call: Call, reason: str) -> Any:
    """Pin what enters; the output has the true shapes and fixed labels."""
    call.structure.pin(call.where(), reason, *call.labelled())
    for held in call.held():
        call.structure.pin_tensor(held.tensor)
    if call.module is not None:
        for tensor in (*call.module.parameters(), *call.module.buffers()):
            call.structure.pin_tensor(tensor)
    return fix_tensors(call.example(call.node))


def fix_tensors(value: Any) -> Any:
    """Replace every tensor in a value, however nested, by fixed labels of its shape."""
    return map_nested(value, lambda v: fixed(v.shape) if isinstance(v, torch.Tensor) else v)


def unknown(call: Call) -> Any:
    """Pin at an operation that has no rule."""
    name = getattr(call.target, "__name__", None) or str(call.target)
    return barrier(call, f"{name} has no channel rule")


BARRIER = Rule("barrier", unknown, Constant.TAINT)
