"""Sizes of traced values, said in terms of the model's inputs as far as that is sure.

A question is about the shape of some activation. A convolution's channels are fixed by the model, its height follows
from the height before it; so most sizes lead back to the inputs, to be checked before anything is computed, and what
no input can change needs no check at all. Where it is not sure, a size is read off the activation itself.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from campfire_fx.analysis.evaluate import Evaluator
from campfire_fx.analysis.rules.conventions import RESHAPES
from campfire_fx.analysis.rules.factories import ARITHMETIC, OF_LISTS
from campfire_fx.capture.formulas import Formula, Size, Value, compared, formula, product
from campfire_fx.capture.origins import origin, pieces

_METHODS = frozenset("size dim ndimension numel nelement".split())


class Sizes:
    """Turns nodes of one trace into formulas over `Size` and `Value`; numbers stand for what no input can change."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self._known: dict[Any, Any] = {}
        self._walked: set[fx.Node] = set()

    def of(self, value: Any) -> Any:
        """Return a node, or an argument of one, as a formula, a tuple of formulas, or a plain value."""
        if isinstance(value, (tuple, list)):
            return tuple([self.of(item) for item in value])
        if not isinstance(value, fx.Node):
            return value
        if value not in self._known:
            self._known[value] = self._node(value)
        return self._known[value]

    def size(self, tensor: fx.Node, dim: int) -> Any:
        """Return one size of a tensor."""
        key = (tensor, dim)
        if key not in self._known:
            self._walk_up_to(tensor)
        if key not in self._known:
            self._known[key] = Size(tensor, dim)
            found = origin(self, tensor, dim)
            self._known[key] = Size(tensor, dim) if found is None else found
        return self._known[key]

    def _walk_up_to(self, tensor: fx.Node) -> None:
        """Find the sizes of all that a tensor is made of first: networks are deeper than Python's stack."""
        if tensor in self._walked:
            return
        made_of, waiting = {tensor}, [tensor]
        while waiting:
            fresh = set(waiting.pop().all_input_nodes) - made_of - self._walked
            made_of |= fresh
            waiting += fresh
        self._walked |= made_of
        for node in sorted(made_of):
            for dim in range(self.rank(node) or 0):
                self.size(node, dim)

    def length(self, node: fx.Node) -> Any:
        """Return the length of a tensor or of the tuple that an operation gives."""
        if self.is_tensor(node):
            return self.size(node, 0)
        known = pieces(self, node)
        return Formula(len, (Value(node),)) if known is None else known

    def rank(self, node: Any) -> int | None:
        """Return the number of dimensions of a tensor that no operation in place reshapes, else None."""
        if not isinstance(node, fx.Node):
            return None
        value = self.evaluator.values.get(node)
        if not isinstance(value, torch.Tensor) or any(m.target in RESHAPES for m in self.evaluator.changes_of(node)):
            return None
        return value.dim()

    def is_tensor(self, node: Any) -> bool:
        """Return whether the value of `node` is a tensor whose shape can be said."""
        return self.rank(node) is not None

    def _node(self, node: fx.Node) -> Any:
        first: Any = node.args[0] if node.args else None
        rank = self.rank(first)
        if node.op == "call_method" and node.target in _METHODS:
            return Value(node) if rank is None or node.kwargs else self._method(node, first, rank)
        if node.op != "call_function":
            return Value(node)
        if node.target is getattr and node.args[1] in ("shape", "ndim") and rank is not None:
            return rank if node.args[1] == "ndim" else self._shape(first, rank)
        if node.target is len and isinstance(first, fx.Node):
            owner = self.of(first) if rank is None else None
            return len(owner) if type(owner) is tuple else self.length(first)
        if node.target is operator.getitem:
            return self._item(node)
        is_arithmetic = node.target in ARITHMETIC and not node.kwargs
        if is_arithmetic and not any(self.is_tensor(need) for need in node.all_input_nodes):
            return self._arithmetic(node)
        return Value(node)

    def _arithmetic(self, node: fx.Node) -> Any:
        function: Any = node.target
        if any(isinstance(arg, list) for arg in node.args) and function not in OF_LISTS:
            return Value(node)
        args = [self.of(arg) for arg in node.args]
        if function is operator.add and all(type(arg) is tuple for arg in args):
            return (*args[0], *args[1])
        if function in (operator.eq, operator.ne) and any(type(arg) is tuple for arg in args):
            return compared(function, *args)
        if function in (operator.eq, operator.ne) and _never_equal(*args):
            return function is operator.ne
        return formula(function, *args)

    def _method(self, node: fx.Node, tensor: fx.Node, rank: int) -> Any:
        if node.target in ("dim", "ndimension"):
            return rank
        shape = self._shape(tensor, rank)
        if node.target != "size":
            return product(shape)
        if len(node.args) == 1:
            return shape
        return shape[node.args[1]] if isinstance(node.args[1], int) else Value(node)

    def _item(self, node: fx.Node) -> Any:
        owner: Any = self.of(node.args[0])
        index: Any = node.args[1]
        bounds = (index.start, index.stop, index.step) if isinstance(index, slice) else (index,)
        if type(owner) is not tuple or not all(bound is None or isinstance(bound, int) for bound in bounds):
            return Value(node)
        return owner[index]

    def _shape(self, tensor: fx.Node, rank: int) -> tuple[Any, ...]:
        return tuple([self.size(tensor, dim) for dim in range(rank)])


def _never_equal(first: Any, second: Any) -> bool:
    """Return whether one is a size, and the other no number that a size can be."""
    size, other = (first, second) if isinstance(first, Size) else (second, first)
    return isinstance(size, Size) and (other is None or (isinstance(other, (int, float)) and other < 0))


def compares_sizes(node: fx.Node) -> bool:
    """Return whether `node` says whether one size, or shape, is another, or is one that was noted before."""
    if node.target not in (operator.eq, operator.ne) or len(node.args) != 2:
        return False
    nodes = [arg for arg in node.args if isinstance(arg, fx.Node)]
    return len(nodes) == 2 or (len(nodes) == 1 and _is_read_off(nodes[0]))


def _is_read_off(node: fx.Node) -> bool:
    """Return whether a node is a shape or a size as it is, and no arithmetic on one."""
    while node.target in (operator.getitem, tuple, list, torch.Size) and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return bool(node.target is getattr and node.args[1] == "shape") or node.target == "size"
