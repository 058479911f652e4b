"""From where a size comes: the size of an operation's result, said by the sizes of what it reads.

Only what is sure of an operation is said here. A size about which nothing is said is read off the result itself, so a
missing entry costs a check that could have been made earlier, or left out; never a wrong one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import fx, nn

from campfire_fx.analysis.evaluate import Evaluator
from campfire_fx.analysis.rules import Kind, Shape, Transfer, lookup
from campfire_fx.analysis.rules.barriers import BARRIER
from campfire_fx.analysis.rules.shapes import convolution_of, keeps_shape
from campfire_fx.capture.formulas import OPEN, formula


class KnownSizes(Protocol):
    """The sizes said so far, of which others are made; `sizes.Sizes` is one."""

    evaluator: Evaluator

    def of(self, value: Any) -> Any:
        """Return a value, or list of values, as a formula."""

    def size(self, tensor: fx.Node, dim: int) -> Any:
        """Return a size of a tensor as a formula."""

    def rank(self, value: Any) -> int | None:
        """Return the number of dimensions of a tensor; None of anything else."""

    def is_tensor(self, value: Any) -> bool:
        """Return whether a node stands for a tensor."""


def origin(sizes: KnownSizes, tensor: fx.Node, dim: int) -> Any:
    """Return the size of a dimension as a formula over earlier ones; None where nothing is known."""
    if tensor.op == "get_attr":
        return sizes.evaluator.values[tensor].shape[dim]
    source: Any = tensor.args[0] if tensor.args else None
    rule = lookup(tensor.target) or BARRIER
    if rule.sizes is Shape.JOINED:
        return _joined(sizes, tensor, source, dim)
    if rule.kind is Kind.INDEX and isinstance(source, fx.Node) and not sizes.is_tensor(source):
        return _piece(sizes, tensor, source, dim)
    rank = sizes.rank(source)
    if rank is None:
        return None
    if tensor.op == "call_module":
        return _module(sizes, sizes.evaluator.module(str(tensor.target)), source, dim)
    if rule.sizes is Shape.FIRST:
        return sizes.size(source, dim)
    if rule.sizes is Shape.BROADCAST and not any(isinstance(given, fx.Node) for given in tensor.kwargs.values()):
        return _broadcast(sizes, tensor, dim)
    if rule.kind is Kind.REDUCE and rule.constant is not Transfer.KEEP:
        return None  # what other reductions are given in the place of dimensions may be something else
    known = _ORIGINS.get(tensor.target) or _OF_KIND.get(rule.kind)
    return None if known is None else known(sizes, tensor, source, dim)


def _module(sizes: KnownSizes, module: nn.Module, source: fx.Node, dim: int) -> Any:
    given = sizes.evaluator.values[source]
    if keeps_shape(module, given):
        return sizes.size(source, dim)
    rule = lookup(type(module)) or BARRIER
    if rule.kind is Kind.MIX and hasattr(module, "out_features"):
        return module.out_features if dim == given.dim() - 1 else sizes.size(source, dim)
    space = convolution_of(module)
    if space is None:
        return sizes.size(source, dim) if rule.kind is Kind.SPACE and dim < min(2, given.dim() - 1) else None
    conv: Any = module
    channel = given.dim() - space - 1
    if dim <= channel:
        return conv.out_channels if dim == channel else sizes.size(source, dim)
    if isinstance(conv.padding, str):
        return None
    axis = dim - channel - 1
    margin = 2 * conv.padding[axis] - conv.dilation[axis] * (conv.kernel_size[axis] - 1) - 1
    return _window(sizes.size(source, dim), margin, conv.stride[axis])


def _window(size: Any, margin: int, stride: int) -> Any:
    """Return (size + margin) // stride + 1, written as simply as can be."""
    if stride == 1:
        return size if margin == -1 else formula(operator.add, size, margin + 1)
    return formula(operator.add, formula(operator.floordiv, formula(operator.add, size, margin), stride), 1)


def _joined(sizes: KnownSizes, tensor: fx.Node, parts: Any, dim: int) -> Any:
    along = tensor.args[1] if len(tensor.args) > 1 else tensor.kwargs.get("dim", 0)
    if not isinstance(parts, (tuple, list)) or not isinstance(along, int) or not all(map(sizes.is_tensor, parts)):
        return None
    if dim != along % sizes.evaluator.values[tensor].dim():
        return sizes.size(parts[0], dim)
    total: Any = 0
    for part in parts:
        total = formula(operator.add, total, sizes.size(part, dim)) if total != 0 else sizes.size(part, dim)
    return total


def _broadcast(sizes: KnownSizes, tensor: fx.Node, dim: int) -> Any:
    """Return a size on which all operands agree, or that one has for every input: the others have it or are 1."""
    operands = [arg for arg in tensor.args if isinstance(arg, fx.Node) and sizes.is_tensor(arg)]
    rank = sizes.evaluator.values[tensor].dim()
    found = []
    for operand in operands:
        own = dim - rank + sizes.evaluator.values[operand].dim()
        found.append(sizes.size(operand, own) if own >= 0 else 1)
    fixed = [size for size in found if not isinstance(size, OPEN) and size != 1]
    if fixed:
        return fixed[0]
    rest = [size for size in found if size != 1]
    return rest[0] if rest and all(size == rest[0] for size in rest) else 1 if not rest else None


def _given(sizes: KnownSizes, tensor: fx.Node, _source: fx.Node, dim: int) -> Any:
    """Return a size that the call itself gives: a number, or a size of another tensor."""
    shape = _listed(tensor.args[1:])
    if dim >= len(shape) or shape[dim] == -1:
        return None
    size = sizes.of(shape[dim])
    return size if isinstance(size, (int, *OPEN)) and not isinstance(size, bool) else None


def _expanded(sizes: KnownSizes, tensor: fx.Node, source: fx.Node, dim: int) -> Any:
    shape = _listed(tensor.args[1:])
    if dim < len(shape) and shape[dim] == -1:
        return sizes.size(source, dim - len(shape) + sizes.evaluator.values[source].dim())
    return _given(sizes, tensor, source, dim)


def _permuted(sizes: KnownSizes, tensor: fx.Node, source: fx.Node, dim: int) -> Any:
    order = _listed(tensor.args[1:])
    known = dim < len(order) and isinstance(order[dim], int)
    return sizes.size(source, order[dim] % len(order)) if known else None


def _transposed(sizes: KnownSizes, tensor: fx.Node, source: fx.Node, dim: int) -> Any:
    rank = sizes.evaluator.values[source].dim()
    if len(tensor.args) != 3 or not all(isinstance(arg, int) for arg in tensor.args[1:]):
        return None
    first, second = (int(arg) % rank for arg in tensor.args[1:])  # type: ignore[arg-type]  # both are whole numbers
    return sizes.size(source, {first: second, second: first}.get(dim, dim))


def _leading(sizes: KnownSizes, _tensor: fx.Node, source: fx.Node, dim: int) -> Any:
    """Return the batch's size, and the channels', of what works on space."""
    return sizes.size(source, dim) if dim < 2 < sizes.evaluator.values[source].dim() else None


def _flattened(sizes: KnownSizes, tensor: fx.Node, source: fx.Node, dim: int) -> Any:
    rank = sizes.evaluator.values[source].dim()
    given = dict(zip(("start_dim", "end_dim"), tensor.args[1:], strict=False))
    first, last = ({**given, **tensor.kwargs}.get(name, preset) for name, preset in (("start_dim", 0), ("end_dim", -1)))
    if not isinstance(first, int) or not isinstance(last, int) or rank == 0:
        return None
    first, last = first % rank, last % rank
    if dim == first:
        return sizes.size(source, dim) if first == last else None
    return sizes.size(source, dim if dim < first else dim + last - first)


def _averaged(sizes: KnownSizes, tensor: fx.Node, source: fx.Node, dim: int) -> Any:
    rank = sizes.evaluator.values[source].dim()
    over = tensor.args[1] if len(tensor.args) > 1 else tensor.kwargs.get("dim")
    dims: Any = (over,) if isinstance(over, int) else over
    if not isinstance(dims, (tuple, list)) or not all(isinstance(d, int) for d in dims):
        return None
    gone = {d % rank for d in dims}
    if sizes.evaluator.values[tensor].dim() == rank:
        return 1 if dim in gone else sizes.size(source, dim)
    return sizes.size(source, [d for d in range(rank) if d not in gone][dim])


def _sliced(sizes: KnownSizes, tensor: fx.Node, source: fx.Node, dim: int) -> Any:
    index = tensor.args[1] if isinstance(tensor.args[1], tuple) else (tensor.args[1],)
    places = [place for place in index if place is None or not isinstance(place, int)]
    if any(place is not None and not isinstance(place, slice) for place in places):
        return None
    before = sum(place is None for place in places[:dim])
    if dim < len(places) and places[dim] != slice(None):
        return 1 if places[dim] is None else None
    numbers = _position(index, dim)
    return sizes.size(source, dim - before + numbers)


def _position(index: tuple[Any, ...], dim: int) -> int:
    """Return how many dimensions before `dim` of a result were taken away by whole numbers."""
    numbers, kept = 0, 0
    for place in index:
        if isinstance(place, int):
            numbers += 1
        elif kept == dim:
            break
        else:
            kept += 1
    return numbers


def _listed(args: tuple[Any, ...]) -> list[Any]:
    """Return sizes given one by one, or as one list."""
    return list(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list)) else list(args)


_Origin = Callable[["KnownSizes", fx.Node, fx.Node, int], Any]
_ORIGINS: dict[Any, _Origin] = {
    **dict.fromkeys(("view", "reshape", torch.reshape), _given),
    "expand": _expanded,
    **dict.fromkeys(("permute", torch.permute), _permuted),
    **dict.fromkeys(("transpose", torch.transpose), _transposed),
    **dict.fromkeys(("flatten", torch.flatten), _flattened),
}
_OF_KIND: dict[Kind, _Origin] = {Kind.REDUCE: _averaged, Kind.INDEX: _sliced, Kind.SPACE: _leading}


def _split(sizes: KnownSizes, node: fx.Node) -> tuple[fx.Node, int] | None:
    """Return what is split, and along which dimension; None where `node` splits nothing."""
    source: Any = node.args[0] if node.args else None
    rank, kind = sizes.rank(source), _kind(node)
    place = 1 if kind is Kind.UNBIND else 2
    along = node.args[place] if len(node.args) > place else node.kwargs.get("dim", 0)
    if kind not in (Kind.SPLIT, Kind.UNBIND) or rank is None or not isinstance(along, int):
        return None
    return source, along % rank


def _kind(node: fx.Node) -> Kind:
    return (lookup(node.target) or BARRIER).kind


def pieces(sizes: KnownSizes, node: fx.Node) -> Any:
    """Return the number of tensors that an operation gives; None where nothing is known."""
    split = _split(sizes, node)
    if split is None:
        return None
    size = sizes.size(*split)
    if _kind(node) is Kind.UNBIND:
        return size
    return len(sizes.evaluator.values[node]) if isinstance(size, int) else None


def _piece(sizes: KnownSizes, tensor: fx.Node, source: fx.Node, dim: int) -> Any:
    """Return a size of one of the tensors that an operation gave."""
    split = _split(sizes, source)
    if split is None:
        return None
    whole, along = split
    if _kind(source) is Kind.UNBIND:
        return sizes.size(whole, dim + (dim >= along))
    if dim != along:
        return sizes.size(whole, dim)
    return sizes.evaluator.values[tensor].shape[dim] if isinstance(sizes.size(whole, dim), int) else None
