"""Operations without a row that are element-wise by proof: all that they compute is element-wise, seen in a run.

A custom activation (`autograd.Function`, a scripted function) is one operation of a graph, for its gradient is its own.
What its forward does is watched on a few numbers: if every kernel called is one that torch itself calls element-wise,
on tensors of one shape that came from the arguments, then so is the whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from campfire_fx.analysis.function_call import FunctionCall
from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.rules.kinds import Kind, Transfer
from campfire_fx.analysis.rules.pointwise import elementwise
from campfire_fx.analysis.rules.record import Call, OpRule
from campfire_fx.base.compat import TorchDispatchMode, pytree, to_copy, writes_to

_SHAPE = (2, 3, 5, 7)  # no length twice, so that one taken for another shows
_aten = torch.ops.aten
# Element-wise, though torch does not say so.
_ALSO = frozenset({
    _aten.detach.default, _aten.alias.default, _aten.hardswish.default, _aten.log_sigmoid_forward.default,
    to_copy.default, _aten.zeros_like.default, _aten.ones_like.default, _aten.full_like.default,
})  # fmt: skip


class _Watch(TorchDispatchMode):
    """Notes whether anything but element-wise kernels runs, or a tensor takes part that did not come from `given`."""

    def __init__(self, given: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_pointwise = True
        self._known = list(given)  # held, so that no other tensor gets the place of one that is gone

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        operands = [v for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
        known = all(any(v is k for k in self._known) or v.ndim == 0 for v in operands)
        shaped = isinstance(result, Tensor) and result.shape == _SHAPE
        named = torch.Tag.pointwise in func.tags or func in _ALSO
        self.is_pointwise = (
            self.is_pointwise and named and known and (shaped or func is _aten.log_sigmoid_forward.default)
        )
        self._known += [v for v in pytree.tree_leaves(result) if isinstance(v, Tensor)]
        return result


def is_candidate(node: fx.Node) -> bool:
    """Return whether an operation without a row is code of the user's that graphs keep whole."""
    return node.op == "call_function" and isinstance(node.target, (FunctionCall, torch.jit.ScriptFunction))


def is_pointwise(call: Call) -> bool:
    """Return whether a call is element-wise over its activations, all of one shape, and draws and writes nothing."""
    found = call.labelled()
    if not found or call.held() or len({v.shape for v in found}) > 1 or call.kwargs:
        return False
    if any(isinstance(v, Tensor) for v in pytree.tree_leaves(call.args)):
        return False
    given = [torch.linspace(-3.1, 2.9, 210).view(_SHAPE) + i for i, _ in enumerate(found)]
    operands = iter(given)
    args = [next(operands) if isinstance(v, Labelled) else v for v in call.args]
    before = torch.get_rng_state()
    target: Any = call.node.target
    watch = _Watch(given)
    try:
        with torch.no_grad(), watch:
            result = target(*args)
    except Exception:  # noqa: BLE001  whatever does not run on these numbers is not proven
        return False
    drawn = not torch.equal(before, torch.get_rng_state())
    if drawn:
        torch.set_rng_state(before)
    plain = isinstance(result, Tensor) and result.shape == _SHAPE and all(writes_to(t) == 0 for t in given)
    return watch.is_pointwise and plain and not drawn


PROVEN = OpRule(Kind.ELEMENT_WISE, elementwise, Transfer.POINTWISE)
