"""Products of two activations (attention, bilinear forms): the contracted dimensions are read whole."""

from __future__ import annotations

from typing import Any

import torch

from campfire_fx.labels import Labelled, varies
from campfire_fx.rules.barriers import barrier
from campfire_fx.rules.record import Call, Constant, Rule, meta, register
from campfire_fx.rules.structure import fixed


def contract(call: Call) -> Any:
    """Keep the labels of rows of the first operand or columns of the second, if the other operand is fixed.

    C[i, j] = sum_k A[i, k] B[k, j]. Labels that differ along k are pinned. One label per position can be kept, so
    where both i and j carry removable channels, both are pinned.
    """
    found = call.labelled()
    if len(call.args) != 2 or call.kwargs or len(found) != 2 or any(len(v.shape) < 2 for v in found):
        return barrier(call, "this form of product has no channel rule")
    structure = call.structure
    first, second = (structure.forest.find(v.labels) for v in found)
    where = call.where()
    if varies(first, first.ndim - 1):
        structure.pin(where, "it contracts these channels", first)
    if varies(second, second.ndim - 2):
        structure.pin(where, "it contracts these channels", second)
    first, second = structure.forest.find(first), structure.forest.find(second)
    if any(varies(v, d) for v in (first, second) for d in range(v.ndim - 2)):
        return barrier(call, "channels lie along its batch")
    rows, columns = bool(first.any()), bool(second.any())
    shape = torch.matmul(meta(found[0]), meta(found[1])).shape
    if rows and columns:
        structure.pin(where, "it crosses two sets of channels", first, second)
    elif rows:
        return Labelled(first.narrow(first.ndim - 1, 0, 1).expand(shape))
    elif columns:
        return Labelled(second.narrow(second.ndim - 2, 0, 1).expand(shape))
    return fixed(shape)


register(Rule("contract", contract, Constant.TAINT), torch.bmm, "bmm")
