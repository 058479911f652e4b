"""What is not understood: every channel that enters is pinned, every channel that leaves is fixed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.kinds import Aliases, Kind, Transfer
from campfire_fx.analysis.rules.record import Call, OpRule, map_nested
from campfire_fx.analysis.rules.structure import fixed


def barrier(call: Call, found: Found, reason: str) -> Any:
    """Pin what enters; the output has the true shapes and fixed labels."""
    found.note("settled", call.node, BARRIER)
    found.pin(call.where(), reason, *call.labelled())
    for held in call.held():
        found.pin_tensor(held.tensor)
    if call.module is not None:
        for tensor in _tensors(call.module, found.structure.islands):
            found.pin_tensor(tensor)
    return fix_tensors(call.example(call.node))


def _tensors(module: nn.Module, islands: frozenset[int]) -> Iterator[Tensor]:
    """Yield the parameters and buffers of a module, but not those of graphs inside of it, which are run themselves."""
    if id(module) not in islands:
        yield from module.parameters(recurse=False)
        yield from module.buffers(recurse=False)
        for child in module.children():
            yield from _tensors(child, islands)


def fix_tensors(value: Any) -> Any:
    """Replace every tensor in a value, however nested, by fixed labels of its shape."""
    return map_nested(value, lambda v: fixed(v.shape) if isinstance(v, torch.Tensor) else v)


def unknown(call: Call, found: Found) -> Any:
    """Pin at an operation that has no rule."""
    name = getattr(call.target, "__name__", None) or str(call.target)
    return barrier(call, found, f"{name} has no channel rule")


BARRIER = OpRule(Kind.BARRIER, unknown, Transfer.TAINT, Aliases.VIEW)
