"""Operations that only move values about: simply executed on the labels, so there is nothing to get wrong."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from campfire_fx.analysis.labels import Labelled, collapse, concatenated, varies
from campfire_fx.analysis.rules.axes import dims_at
from campfire_fx.analysis.rules.barriers import barrier
from campfire_fx.analysis.rules.complex_numbers import PART, PARTS
from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.kinds import Aliases, Kind, Shape, Transfer
from campfire_fx.analysis.rules.picking import pick_at
from campfire_fx.analysis.rules.pointwise import both_forms, pass_on
from campfire_fx.analysis.rules.record import Call, OpRule, map_nested, register
from campfire_fx.base.compat import CONSTANT_PADDING, assertion, exported_pad


def move(call: Call, found: Found) -> Any:
    """Execute the operation on the labels; where an activation is used as an index or a size, nothing is known."""
    if any(isinstance(v, torch.dtype) for v in (*call.args, *call.kwargs.values())):
        return barrier(call, found, "it looks at the bits of these channels")
    if not _moves_only_data(call):
        picked = pick_at(call, found)
        return picked or barrier(call, found, "it is indexed by values that depend on the input")
    if call.target is not operator.getitem and any(isinstance(v, Tensor) for v in _data(call)):
        return barrier(call, found, "it puts tensors that depend on no input beside these channels")
    output = call.run(lambda v: v.labels)  # type: ignore[union-attr]
    return relabel(found, output)


def relabel(found: Found, output: Any) -> Any:
    """Wrap moved label tensors, however nested, in their normal form."""
    return map_nested(output, lambda v: found.stretch(v) if isinstance(v, Tensor) else v)


def _moves_only_data(call: Call) -> bool:
    """Whether labels stand only where data may stand: the first argument, or a list of tensors."""
    return call.target in _SHAPED_LIKE or sum(isinstance(v, Labelled) for v in _data(call)) == len(call.labelled())


def _data(call: Call) -> list[Any]:
    data = call.args[0] if call.args else call.kwargs.get("input", call.kwargs.get("tensors"))
    if isinstance(data, dict):
        return list(data.values())
    return list(data) if isinstance(data, (tuple, list)) else [data]


def shape_as(call: Call, found: Found) -> Any:
    """Execute on the labels; channels lie in the result where they lie in the tensor whose shape it takes."""
    like = call.get(1, "other")
    if not isinstance(call.get(0, "input"), Labelled):
        return barrier(call, found, "a tensor that depends on no input takes the shape of these channels")
    output = move(call, found)
    if isinstance(like, Labelled) and isinstance(output, Labelled):
        found.forest.join(output.labels, like.labels)
        return found.stretch(output.labels)
    return output


def concatenate(call: Call, found: Found) -> Any:
    """Concatenate labels; dimensions along which no operand varies are not copied.

    An operand that depends on no activation (coordinates, a constant) gets labels of its own along the dimension.
    """
    tensors = call.get(0, "tensors")
    dim = call.get(1, "dim", call.kwargs.get("axis", 0))
    if not all(isinstance(t, (Labelled, Tensor)) for t in tensors) or not isinstance(dim, int):
        return barrier(call, found, "its operands are computed")
    labels = _operand_labels(call, found, tensors, dim)
    if labels is None:
        return barrier(
            call, found, "tensors that depend on no input stand beside these channels, along another dimension"
        )
    labels = [t for t in labels if t.shape != (0,)]  # torch ignores empty one-dimensional operands
    if not labels:
        return barrier(call, found, "its operands are computed")
    return relabel(found, concatenated(labels, dim))


def _operand_labels(call: Call, found: Found, tensors: Any, dim: int) -> list[Tensor] | None:
    """Return the labels of every operand of a concatenation, and note those of operands without an activation.

    None where such an operand meets channels that lie along another dimension: it would have to lose them too.
    """
    operands: Any = call.node.args[0] if call.node.args else call.node.kwargs["tensors"]
    if all(isinstance(t, Labelled) for t in tensors):
        return [t.labels for t in tensors]
    if isinstance(operands, fx.Node):  # a list made elsewhere
        return None
    roots = [found.forest.find(t.labels) for t in tensors if isinstance(t, Labelled)]
    crossed = any(varies(v, d) for v in roots for d in range(v.ndim) if d != dim % v.ndim)
    plain = {
        node: value for node, value in zip(operands, tensors, strict=True) if isinstance(value, Tensor) and value.ndim
    }
    if crossed:
        return None
    known = {node: _along(found, t.shape, dim % t.ndim) for node, t in plain.items()}
    found.note("joined", call.node, known)
    pairs = zip(operands, tensors, strict=True)
    return [given.labels if isinstance(given, Labelled) else known[node].labels for node, given in pairs]


def _along(found: Found, shape: torch.Size, dim: int) -> Labelled:
    line = found.forest.fresh(shape[dim])
    return Labelled(line.view([-1 if d == dim else 1 for d in range(len(shape))]).expand(shape))


@dataclass(frozen=True, slots=True)
class Padding:
    """What a padding puts around: `amounts` as for `F.pad`, last dimension first; "constant", or what it repeats."""

    amounts: Any
    mode: str
    value: Any


def read_padding(node: fx.Node, module: nn.Module | None) -> Padding:
    """Return the settings of a call that pads, of a function or of a module."""
    if module is not None:
        mode = "constant" if isinstance(module, CONSTANT_PADDING) else "other"
        return Padding(module.padding, mode, getattr(module, "value", 0.0))
    given: dict[str, Any] = dict(zip(("input", "pad", "mode", "value"), node.args, strict=False)) | dict(node.kwargs)
    return Padding(given.get("pad"), given.get("mode", "constant"), given.get("value") or 0.0)


def puts_numbers(call: Call) -> bool:
    """Whether a padding puts numbers of its own around, and does not repeat those of the image."""
    return read_padding(call.node, call.module).mode == "constant"


def pad(call: Call, found: Found) -> Any:
    """Pad labels: over space a channel keeps its label; on a channel axis the zeros get fresh labels of their own."""
    value, padding = call.get(0, "input"), read_padding(call.node, call.module)
    amounts: Any = call.get(1, "pad") if call.module is None else padding.amounts
    if not isinstance(value, Labelled) or not _plain(amounts):
        return barrier(call, found, "its amounts are computed")
    labels = found.forest.find(value.labels)
    for i, (before, after) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        dim = labels.ndim - 1 - i
        if not varies(labels, dim):
            shape = list(labels.shape)
            shape[dim] += before + after
            labels = labels.narrow(dim, 0, 1).expand(shape)
        elif padding.mode == "constant" and before >= 0 and after >= 0:
            labels = torch.cat([_fresh(found, labels, dim, before), labels, _fresh(found, labels, dim, after)], dim)
        else:
            return barrier(call, found, "it crops or reflects channels")
    return found.stretch(labels)


def _plain(amounts: Any) -> bool:
    return isinstance(amounts, (tuple, list)) and all(isinstance(a, int) for a in amounts)


def _fresh(found: Found, like: Tensor, dim: int, count: int) -> Tensor:
    small = collapse(like)
    line = found.forest.fresh(count)
    shape = [1] * small.ndim
    shape[dim] = count
    full = list(like.shape)
    full[dim] = count
    return line.view(shape).expand(full)


def ask(call: Call, found: Found) -> Any:
    """Answer questions about shape and kind from the labels' own shape; a number that fills a new tensor stays."""
    asked = call.args[0] if call.args else call.kwargs.get("input")
    found.pin(call.where(), "it fills a tensor", *[v for v in call.labelled() if v is not asked])
    return call.run(lambda v: v.labels)  # type: ignore[union-attr]


def asks_shape(node: fx.Node) -> bool:
    """Whether a question is about a shape, so that the answer is another where channels have gone."""
    return node.target in _SHAPE_QUESTIONS or (node.target is getattr and node.args[1] in ("shape", "ndim"))


def asks_kind(node: fx.Node) -> bool:
    """Whether a question is about the kind of numbers, or where they are: the same for any image and any channels."""
    if node.target is getattr:
        name = str(node.args[1])
        return name in _ATTRIBUTES and name != "shape"
    return node.target in _KIND_QUESTIONS


def hides_history(node: fx.Node) -> bool:
    """Whether a call gives the tensor that it is given, without its history."""
    if node.op == "call_method":
        return bool(node.target == "detach")
    return node.target is getattr and bool(node.args[1] == "data")


def ask_layout(call: Call, found: Found) -> Any:
    """Answer how an activation lies in memory, which its labels do not share, as it is for the example."""
    return call.example(call.node)


def attribute(call: Call, found: Found) -> Any:
    """Read an attribute: transposes move, everything else is a question."""
    name = call.args[1]
    if name in ("T", "mT", "data"):
        return relabel(found, call.run(lambda v: v.labels))  # type: ignore[union-attr]
    if name in PARTS:
        found.note("settled", call.node, PART)
        return pass_on(call, found)
    known = name in _ATTRIBUTES
    return ask(call, found) if known else barrier(call, found, f"its attribute {name} has no channel rule")


def write(call: Call, found: Found) -> Any:
    """Pin what is written into and what is written: a part of a tensor changes in place."""
    return barrier(call, found, "it is written in place, in part")


def nothing(call: Call, found: Found) -> Any:
    """Do nothing: assertions are kept in the graph, and their conditions are checked again after shrinking."""
    return None


_VIEWS = ("reshape", "view", "flatten", "squeeze", "unsqueeze", "expand", "broadcast_to", "hsplit", "vsplit",
          "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "atleast_1d", "atleast_2d",
          "atleast_3d", "adjoint", "diagonal")  # fmt: skip
_COPIES = ("repeat", "repeat_interleave", "tile", "stack", "hstack", "vstack", "dstack", "column_stack",
           "rot90", "narrow_copy")  # fmt: skip
_ORDERS = ("roll", "flip", "fliplr", "flipud")
_PERMUTATIONS = ("permute", "transpose", "t", "swapaxes", "swapdims", "movedim", "moveaxis")
_SPLITS = ("split", "chunk", "tensor_split", "split_with_sizes")
_QUESTIONS = ("size", "dim", "ndimension", "numel", "nelement", "is_floating_point", "is_complex", "element_size",
              "get_device", "new_zeros", "new_ones", "new_full", "new_empty", "__len__")  # fmt: skip
_ATTRIBUTES = ("shape", "ndim", "dtype", "device", "is_cuda", "requires_grad", "layout", "is_sparse", "is_quantized",
               "is_mps", "itemsize")  # fmt: skip
_SHAPE_QUESTIONS = ("size", "dim", "ndimension", "numel", "nelement", "__len__", len, torch.numel)
_KIND_QUESTIONS = ("dim", "ndimension", "is_floating_point", "is_complex", "element_size", "get_device",
                   torch.is_floating_point)  # fmt: skip
_LAYOUT_QUESTIONS = ("stride", "is_contiguous", "storage_offset")
_SHAPED_LIKE = ("view_as", "reshape_as")
_PADS = [
    *(getattr(nn, f"{kind}Pad{n}d") for kind in ("Zero", "Constant", "Reflection", "Replication", "Circular")
      for n in (1, 2, 3) if hasattr(nn, f"{kind}Pad{n}d")),
    *(F.pad, exported_pad),
]  # fmt: skip


register(OpRule(Kind.MOVE, move, Transfer.EXECUTE, Aliases.VIEW), *both_forms(_VIEWS), nn.Flatten)
register(OpRule(Kind.MOVE, move, Transfer.EXECUTE, Aliases.VIEW), nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle)
register(OpRule(Kind.MOVE, shape_as, Transfer.EXECUTE, Aliases.VIEW), *_SHAPED_LIKE)
register(OpRule(Kind.MOVE, move, Transfer.EXECUTE, Aliases.VIEW, axes=dims_at(1, 0)), *both_forms(("narrow", "unfold")))
register(OpRule(Kind.MOVE, move, Transfer.EXECUTE), *both_forms(_COPIES))
register(OpRule(Kind.MOVE, move, Transfer.EXECUTE, axes=dims_at(1, 0)), *both_forms(("index_select", "gather")))
register(OpRule(Kind.MOVE, move, Transfer.EXECUTE, axes=dims_at(2, 0)), *both_forms(("take_along_dim",)))
register(OpRule(Kind.MOVE, move, Transfer.EXECUTE, sizes=Shape.FIRST), *both_forms(_ORDERS))
register(OpRule(Kind.PERMUTE, move, Transfer.EXECUTE, Aliases.VIEW), *both_forms(_PERMUTATIONS))
register(OpRule(Kind.IDENTITY, move, Transfer.EXECUTE, Aliases.SAME), *both_forms(("detach",)), nn.Identity)
register(OpRule(Kind.IDENTITY, move, Transfer.EXECUTE, Aliases.VIEW), "contiguous")
register(OpRule(Kind.IDENTITY, move, Transfer.EXECUTE), *both_forms(("clone",)))
register(OpRule(Kind.SPLIT, move, Transfer.EXECUTE, Aliases.VIEW, axes=dims_at(2, 0)), *both_forms(_SPLITS))
register(OpRule(Kind.UNBIND, move, Transfer.EXECUTE, Aliases.VIEW), *both_forms(("unbind",)))
register(OpRule(Kind.UNFLATTEN, move, Transfer.EXECUTE, Aliases.VIEW), *both_forms(("unflatten",)), nn.Unflatten)
register(OpRule(Kind.SELECT, move, Transfer.EXECUTE, Aliases.VIEW, axes=dims_at(1, 0)), *both_forms(("select",)))
register(OpRule(Kind.INDEX, move, Transfer.EXECUTE, Aliases.VIEW), operator.getitem)
register(OpRule(Kind.CONCATENATE, concatenate, Transfer.EXECUTE), torch.cat, torch.concat, torch.concatenate)
register(OpRule(Kind.PAD, pad, Transfer.MAKE, pads=puts_numbers), *_PADS)
register(OpRule(Kind.ASK, ask, Transfer.EXECUTE), *_QUESTIONS, len, torch.numel, torch.is_floating_point)
register(OpRule(Kind.ASK, ask_layout, Transfer.EXECUTE), *_LAYOUT_QUESTIONS)
register(OpRule(Kind.ASK, attribute, Transfer.EXECUTE, Aliases.VIEW), getattr)
register(OpRule(Kind.WRITE, write, Transfer.TAINT), operator.setitem, "copy_", "index_copy_", "index_add_", "scatter_")
register(OpRule(Kind.GUARD, nothing, Transfer.EXECUTE), assertion, print)
