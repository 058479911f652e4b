"""What fails inside a `try` of the model's code: it fails while the code is traced, as it would in a run.

Nodes are not run as they are made, so a call that cannot work would stay in the graph, and the code that handles its
error would never be seen. Below a function that handles errors, each node is run on the example at once.
"""

from __future__ import annotations

import copy
import dis
import sys
from collections.abc import Iterable
from types import CodeType, FrameType
from typing import Any

import torch
from torch import fx

from campfire_fx.analysis.evaluate import Evaluator, call, map_tensors

# How `except ValueError:` and `except:` begin; the second of each until Python 3.10.
_MATCHES = frozenset({"CHECK_EXC_MATCH", "JUMP_IF_NOT_EXC_MATCH"})
_BARE = (("PUSH_EXC_INFO", "POP_TOP"), ("POP_TOP", "POP_TOP", "POP_TOP"))


def handlers(codes: Iterable[CodeType]) -> frozenset[int]:
    """Return the ids of the code objects that handle errors."""
    return frozenset(id(code) for code in codes if _handles(code))


def _handles(code: CodeType) -> bool:
    if "suppress" in code.co_names:  # contextlib's
        return True
    if sys.version_info >= (3, 11) and not code.co_exceptiontable:
        return False
    names = [dis.opname[number] for number in code.co_code[::2]]
    if not _MATCHES.isdisjoint(names):
        return True
    return any(pattern in zip(*(names[i:] for i in range(len(pattern))), strict=False) for pattern in _BARE)


def is_handled(frame: FrameType | None, handling: frozenset[int]) -> bool:
    """Return whether `frame` was called by code that handles errors, from anywhere in it."""
    while frame is not None:
        if id(frame.f_code) in handling:
            return True
        frame = frame.f_back
    return False


def failure(evaluator: Evaluator, node: fx.Node) -> Exception | None:
    """Return the error that a node gives on the example; None where it runs, or where it takes data to know.

    Tensors without data fail for reasons of their own, so the error is that of a run on zeros.
    """
    try:
        inputs = {need: evaluator.value(need) for need in node.all_input_nodes}
    except Exception:  # noqa: BLE001  (whatever an operation may raise)
        return None
    try:
        evaluator.value(node)
    except Exception:  # noqa: BLE001
        return _failure_on_zeros(evaluator, node, inputs)
    return None


def _failure_on_zeros(evaluator: Evaluator, node: fx.Node, inputs: dict[fx.Node, Any]) -> Exception | None:
    def zeros(tensor: torch.Tensor) -> torch.Tensor:
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device=evaluator.device)

    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda need: map_tensors(inputs[need], zeros))
    try:
        with torch.no_grad():
            if node.op == "call_module":
                copy.deepcopy(evaluator.module(str(node.target)))(*args, **kwargs)
            else:
                call(node, args, kwargs)
    except Exception as error:  # noqa: BLE001
        return error
    return None
