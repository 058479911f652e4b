"""Products of two activations (attention, bilinear forms): what is contracted is read, the rest passes where it can.

C[..., i, j] = sum_k A[..., i, k] B[..., k, j], where the dimensions in front (heads) may hold channels too. A channel k
can go from both operands where one of them is zero there; rows of A or columns of B keep their labels. Heads stay,
and keep equal numbers of channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from campfire_fx.analysis.labels import Labelled, broadcast_shape, varies
from campfire_fx.analysis.rules.barriers import barrier
from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.kinds import Kind, Transfer
from campfire_fx.analysis.rules.record import Call, OpRule, map_nodes, register
from campfire_fx.analysis.rules.structure import MixCall, Mixer, fixed
from campfire_fx.layers.layout import Layout


@dataclass(frozen=True, slots=True)
class Form:
    """How an einsum lays out C[..., i, j] = sum_k A[..., i, k] B[..., k, j]: dimensions of A, B and C in that order.

    Where there is no i or no j, `rows` or `columns` is false, and that dimension is put in.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    result: tuple[int, ...]
    rows: bool
    columns: bool

    def operands(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Return A (..., i, k) and B (..., k, j)."""
        one, other = first.permute(self.first), second.permute(self.second)
        return one if self.rows else one.unsqueeze(-2), other if self.columns else other.unsqueeze(-1)

    def laid_out(self, product: Tensor) -> Tensor:
        """Return C (..., i, j) as the equation has it."""
        product = product if self.columns else product.squeeze(-1)
        product = product if self.rows else product.squeeze(-1 - self.columns)
        return product.permute(self.result)


def read_form(equation: Any) -> Form | None:
    """Read the equation of an einsum of two operands; None where it is of another form."""
    if not isinstance(equation, str) or "->" not in equation or "." in equation:
        return None
    left, result = equation.replace(" ", "").split("->")
    terms = left.split(",")
    if len(terms) != 2 or any(len(set(term)) != len(term) for term in (*terms, result)):
        return None
    one, other = terms
    batch = [c for c in result if c in one and c in other]
    rows, columns = [c for c in result if c not in other], [c for c in result if c not in one]
    contracted = [c for c in one if c not in result]
    if len(contracted) != 1 or contracted != [c for c in other if c not in result] or max(len(rows), len(columns)) > 1:
        return None
    order = [*batch, *rows, *columns]
    return Form(
        tuple(one.index(c) for c in [*batch, *rows, *contracted]),
        tuple(other.index(c) for c in [*batch, *contracted, *columns]),
        tuple(order.index(c) for c in result),
        bool(rows),
        bool(columns),
    )


def form_of(node: fx.Node) -> Form | None:
    """Return how a call lays its operands out, where an equation says so."""
    return read_form(node.args[0]) if node.target is torch.einsum else None


def contract(call: Call, found: Found) -> Any:
    """Join what is contracted; keep the labels of rows of the first operand or columns of the second.

    One label per position can be kept, so where both rows and columns carry removable channels, both are pinned.
    """
    operands = call.labelled()
    form = form_of(call.node)
    plain = call.target is not torch.einsum and len(call.args) == 2 and all(len(v.shape) > 1 for v in operands)
    if call.kwargs or len(operands) != 2 or (form is None and not plain):
        return barrier(call, found, "this form of product has no channel rule")
    if form is None:
        return _product(call, found, operands[0].labels, operands[1].labels)
    product = _product(call, found, *form.operands(operands[0].labels, operands[1].labels))
    return Labelled(form.laid_out(product.labels))


def _product(call: Call, found: Found, first: Tensor, second: Tensor) -> Labelled:
    where = call.where()
    first, second = found.forest.find(first), found.forest.find(second)
    contracts = varies(first, first.ndim - 1) or varies(second, second.ndim - 2)
    if contracts and not _join(call, found, first, second):
        found.pin(where, "it contracts these channels", first, second)
    first, second = found.forest.find(first), found.forest.find(second)
    shape = torch.Size([*broadcast_shape(first.shape[:-2], second.shape[:-2]), first.shape[-2], second.shape[-1]])
    rows, columns = varies(first, first.ndim - 2), varies(second, second.ndim - 1)
    if rows and columns:
        found.pin(where, "it crosses two sets of channels", first, second)
        return fixed(shape)
    if rows or columns:
        return _pass_on(call, found, (first, second), int(columns), shape)
    return _alike(call, found, (first, second), shape)


def attend(call: Call, found: Found) -> Any:
    """Attention in one call: queries and keys are contracted, values pass.

    Its scale is made of the number of query channels: where some go, it is written out as it was.
    """
    operands = [call.get(i, name) for i, name in enumerate(("query", "key", "value"))]
    if not all(isinstance(v, Labelled) for v in operands) or call.get(7, "enable_gqa", False):
        return barrier(call, found, "this form of attention has no channel rule")
    query, key, value = operands
    mask = [v for v in call.labelled() if all(v is not other for other in operands)]
    if not _join_keys(call, found, query, key):
        found.pin(call.where(), "attention contracts these channels", query, key)
    found.pin(call.where(), "attention contracts these channels", *mask)
    labels = found.forest.find(value.labels)
    shape = torch.Size([*broadcast_shape(query.shape[:-2], value.shape[:-2]), query.shape[-2], value.shape[-1]])
    weights = fixed([*shape[:-1], value.shape[-2]]).labels
    return _pass_on(call, found, (weights, labels), 1, shape)


def _join_keys(call: Call, found: Found, query: Labelled, key: Labelled) -> bool:
    """Join the channels of queries and keys, where there is a scale that can be written out."""
    queries, keys = (found.forest.find(v.labels) for v in (query, key))
    if not varies(queries, queries.ndim - 1) and not varies(keys, keys.ndim - 1):
        return False
    scale = call.get(6, "scale")
    if scale is None and not _all_differ(queries):
        return False
    return _join(call, found, queries, keys.transpose(-2, -1))


def _all_differ(queries: Tensor) -> bool:
    """Whether the last dimension is made of channels alone, each once: then no input changes its size."""
    rows = queries.select(-2, 0)
    rows = _by_head(rows, _heads([rows]))
    return all(row.unique().numel() == row.numel() for row in rows)


def _alike(call: Call, found: Found, operands: tuple[Tensor, Tensor], shape: torch.Size) -> Labelled:
    """Neither rows nor columns hold channels: one label for all of an operand passes, others stay."""
    first, second = operands
    if any(varies(v, d) for v in operands for d in range(v.ndim - 2)):
        if _is_joined(call, found):
            return fixed(shape)  # of what is contracted nothing is left, and heads stay
        found.pin(call.where(), "channels lie along its batch", *operands)
        return fixed(shape)
    if first.any() and not second.any() and not varies(first, first.ndim - 1):
        return Labelled(first.narrow(first.ndim - 1, 0, 1).expand(shape))
    if second.any() and not first.any() and not varies(second, second.ndim - 2):
        return Labelled(second.narrow(second.ndim - 2, 0, 1).expand(shape))
    if first.any() and second.any() and not _is_joined(call, found):
        found.pin(call.where(), "it crosses two sets of channels", first, second)
    return fixed(shape)


def _is_joined(call: Call, found: Found) -> bool:
    return any(c.node is call.node for m in found.mixers() if m.virtual for c in m.calls)


def _pass_on(call: Call, found: Found, operands: tuple[Tensor, Tensor], which: int, shape: torch.Size) -> Labelled:
    """Let the rows or columns of one operand keep their labels, heads alike; the other must hold none."""
    passing, other = operands[which], operands[1 - which]
    contracted = passing.ndim - 2 if which else passing.ndim - 1
    if other.any() or varies(passing, contracted):
        found.pin(call.where(), "it crosses two sets of channels", *operands)
        return fixed(shape)
    line = passing.narrow(contracted, 0, 1)
    if any(varies(passing, d) for d in range(passing.ndim - 2)):
        _enter(call, found, _by_head(line.squeeze(contracted), _heads([line])), reads=False)
    return Labelled(line.expand(shape))


def _join(call: Call, found: Found, first: Tensor, second: Tensor) -> bool:
    """Join what the operands hold along the contracted dimension, head by head; whether that could be done."""
    if varies(first, first.ndim - 2) or varies(second, second.ndim - 1):
        return False
    lines = contracted_lines(first, second)
    if not all(line.any() for line in lines):
        return False  # one of them stays whole
    found.forest.join(*lines)
    joined = found.forest.find(lines[0])
    if not joined.any():
        return False
    _enter(call, found, _by_head(joined, _heads(lines)), reads=True)
    return True


def contracted_lines(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return what two operands hold along the contracted dimension, each (..., K), at their first row and column."""
    one, other = first.select(-2, 0), second.select(-1, 0)
    shape = broadcast_shape(one.shape, other.shape)
    return one.expand(shape), other.expand(shape)


def two_operands(node: fx.Node) -> tuple[fx.Node, fx.Node]:
    """Return what a call contracts, which may be one node twice."""
    found: list[fx.Node] = []

    def note(source: fx.Node) -> fx.Node:
        found.append(source)
        return source

    named = [node.kwargs[name] for name in ("query", "key") if name in node.kwargs]
    map_nodes((node.args, named or node.kwargs), note)
    return found[0], found[1]


def passed_from(node: fx.Node) -> tuple[list[fx.Node], bool]:
    """Return the operands from which the channels of a product may come, and whether it gives means of them.

    Attention passes its values, in means unless a mask or dropout may leave out some of all.
    """
    if node.target is not F.scaled_dot_product_attention:
        return node.all_input_nodes, False
    names = ("query", "key", "value", "attn_mask", "dropout_p")
    given: dict[str, Any] = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    return [given["value"]], given.get("attn_mask") is None and not given.get("dropout_p")


def _heads(lines: Any) -> list[int]:
    """Return the dimensions, but the last, along which any of some tensors (..., K) differs."""
    return [d for d in range(lines[0].ndim - 1) if any(varies(line, d) for line in lines)]


def _by_head(line: Tensor, heads: list[int]) -> Tensor:
    """View labels (..., K) as (heads, K): of dimensions along which they do not differ the first place."""
    for dim in range(line.ndim - 1):
        if dim not in heads:
            line = line.narrow(dim, 0, 1)
    return line.reshape(-1, line.shape[-1])


def _enter(call: Call, found: Found, labels: Tensor, *, reads: bool) -> None:
    """Enter labels (heads, K) as a reader that needs them, or (`reads` false) only as many of each head."""
    heads, channels = labels.shape
    weight = torch.full((heads, channels), float(reads))
    stay = torch.zeros(heads, dtype=torch.float64)
    name, layout = call.node.name, Layout(0, 1, heads)
    use = MixCall(found.structure.graph, call.node, call.node.all_input_nodes[0], 0, False, None, 0)
    mixer = Mixer(name, "contract", weight, layout, labels.flatten(), stay, (use,), virtual=True)
    found.note("mixers", id(weight), mixer)


register(OpRule(Kind.CONTRACT, contract, Transfer.TAINT), torch.bmm, "bmm")
register(OpRule(Kind.ATTEND, attend, Transfer.TAINT), F.scaled_dot_product_attention)
