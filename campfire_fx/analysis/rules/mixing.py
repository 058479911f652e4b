"""Operations that mix channels with weights: convolutions, transposed convolutions, linear layers, einsum.

They consume the labels of their input channels and give the weight's own labels to their output channels.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.rules.barriers import barrier
from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.kinds import Kind, Transfer
from campfire_fx.analysis.rules.matmul import contract
from campfire_fx.analysis.rules.record import Call, Held, OpRule, meta, parts, register
from campfire_fx.analysis.rules.shapes import shape_after
from campfire_fx.analysis.rules.structure import MixCall
from campfire_fx.base.compat import output_padding
from campfire_fx.layers.layout import Layout, layout_of


@dataclass(frozen=True, slots=True)
class MixArguments:
    """One mixing call, whatever form it was written in: y = weight * value + bias, of the shape given.

    Channels lie along `channel_dim` of the input, and along `out_dim` of the output.
    """

    operation: str
    source: fx.Node
    value: Labelled
    weight: Tensor
    bias: Tensor | None
    layout: Layout
    channel_dim: int
    padded: bool
    shape: torch.Size
    out_dim: int


def mix(call: Call, found: Found) -> Any:
    """Consume the input labels, give the weight's own output labels."""
    given = _READERS[call.target](call)
    if given is None:
        return barrier(call, found, "its weight is computed, or its form is not understood")
    graph, channels = found.structure.graph, found.channels(given.value, given.channel_dim)
    use = MixCall(graph, call.node, given.source, given.channel_dim, given.padded, call.module, given.out_dim)
    mixer = found.mixes(given.weight, given.operation, given.layout, channels, use)
    if given.bias is not None:  # a bias shared by several weights joins their outputs
        known = found.structure.biases.get(id(given.bias), (given.bias, mixer.outputs))
        found.note("biases", id(given.bias), known)
        found.forest.join(known[1], mixer.outputs)
    counted = "features" if isinstance(call.module, nn.Linear) else "channels"
    found.counts(call.module, f"in_{counted}", mixer.inputs)
    found.counts(call.module, f"out_{counted}", mixer.outputs)
    size = [1] * len(given.shape)
    size[given.out_dim] = mixer.outputs.numel()
    return Labelled(mixer.outputs.view(size).expand(given.shape))


def mix_or_contract(call: Call, found: Found) -> Any:
    """Mix with weights where one operand is a parameter; else contract two activations."""
    return contract(call, found) if _READERS[call.target](call) is None else mix(call, found)


def _is_padded(padding: Any, taps: Any, mode: str = "zeros") -> bool:
    if mode != "zeros":
        return False
    if isinstance(padding, str):
        return padding != "valid" and any(k > 1 for k in taps)
    return any(p > 0 for p in (padding if isinstance(padding, (tuple, list)) else (padding,)))


def _convolution_module(call: Call) -> MixArguments | None:
    module: Any = call.module
    value, source = call.get(0, "input"), call.operand(0, "input")
    if not isinstance(value, Labelled) or source is None or not isinstance(module.weight, nn.Parameter):
        return None
    layout = layout_of(module)
    padded = module.transposed or _is_padded(module.padding, module.kernel_size, module.padding_mode)
    dim = len(value.shape) - len(module.kernel_size) - 1
    name = type(module).__name__.removeprefix("Masked")
    shape = _module_shape(call, module, value, dim)
    return MixArguments(name, source, value, module.weight, module.bias, layout, dim, padded, shape, dim)


def _module_shape(call: Call, module: Any, value: Labelled, dim: int) -> torch.Size:
    """Return the output shape of a convolution: known, or from one channel of each on the meta device."""
    known = shape_after(module, value.shape)
    if known is not None:
        return known
    one = torch.empty([1 if d == dim else s for d, s in enumerate(value.shape)], device="meta")
    n = len(module.kernel_size)
    weight = torch.empty((1, 1, *module.kernel_size), device="meta")
    if module.transposed:
        wanted = call.args[1] if len(call.args) > 1 else call.kwargs.get("output_size")
        extra = output_padding(
            module, one, wanted, module.stride, module.padding, module.kernel_size, n, module.dilation
        )
        shape = TRANSPOSED[n - 1](one, weight, None, module.stride, module.padding, extra, 1, module.dilation).shape
    else:
        shape = PLAIN[n - 1](one, weight, None, module.stride, module.padding, module.dilation).shape
    return torch.Size(module.out_channels if d == dim else s for d, s in enumerate(shape))


def _linear(
    operation: str, source: fx.Node, value: Labelled, weight: Tensor, bias: Tensor | None, layout: Layout
) -> MixArguments:
    shape = torch.Size([*value.shape[:-1], weight.shape[layout.out_axis]])
    last = len(shape) - 1
    return MixArguments(operation, source, value, weight, bias, layout, last, False, shape, last)


def _linear_module(call: Call) -> MixArguments | None:
    module: Any = call.module
    value, source = call.get(0, "input"), call.operand(0, "input")
    if not isinstance(value, Labelled) or source is None or not isinstance(module.weight, nn.Parameter):
        return None
    return _linear("Linear", source, value, module.weight, module.bias, Layout(0, 1))


def _operands(call: Call, names: tuple[str, ...]) -> tuple[fx.Node, Labelled, Tensor, Tensor | None] | None:
    """Return source, input, weight and bias of a functional call, or None if the weight is not a parameter."""
    given = {name: call.get(i, name) for i, name in enumerate(names)}
    source = call.operand(names.index("input"), "input")
    value, weight, bias = given["input"], given["weight"], given.get("bias")
    if source is None or not isinstance(value, Labelled) or not isinstance(weight, Held):
        return None
    if not (bias is None or isinstance(bias, Held)):
        return None
    return source, value, weight.tensor, None if bias is None else bias.tensor


def _convolution_function(call: Call) -> MixArguments | None:
    operands = _operands(call, ("input", "weight", "bias"))
    if operands is None:
        return None
    source, value, weight, bias = operands
    transposed = call.target in TRANSPOSED
    layout = Layout(int(transposed), int(not transposed), call.get(6, "groups", 1))
    written = call.node.args[4] if len(call.node.args) > 4 else call.node.kwargs.get("padding", 0)
    # What is computed from a size may be more in another call.
    padded = transposed or bool(parts(written, fx.Node)) or _is_padded(call.get(4, "padding", 0), weight.shape[2:])
    dim = len(value.shape) - weight.ndim + 1
    name = getattr(call.target, "__name__", "convolution")
    return MixArguments(name, source, value, weight, bias, layout, dim, padded, call.run(meta).shape, dim)


def _linear_function(call: Call) -> MixArguments | None:
    operands = _operands(call, ("input", "weight", "bias"))
    return None if operands is None else _linear("linear", *operands, Layout(0, 1))


def _matmul(call: Call) -> MixArguments | None:
    second = "other" if "other" in call.kwargs else "mat2"
    value, weight, source = call.get(0, "input"), call.get(1, second), call.operand(0, "input")
    if source is None or not isinstance(value, Labelled) or not isinstance(weight, Held):
        return None
    return None if weight.tensor.ndim != 2 else _linear("matmul", source, value, weight.tensor, None, Layout(1, 0))


def _addmm(call: Call) -> MixArguments | None:
    operands = _operands(call, ("bias", "input", "weight"))
    if operands is None or len(call.args) != 3 or call.kwargs or operands[3] is None or operands[3].ndim != 1:
        return None
    return _linear("addmm", *operands, Layout(1, 0))


def _einsum(call: Call) -> MixArguments | None:
    """Read `einsum("nchw,kc->nkhw", x, weight)`: one contracted index, one new index, nothing else in the weight.

    Other indices of x may be summed too ("nchw,kc->nk"): then a constant counts as often as the image is large, which
    is as if it were padded.
    """
    equation, *operands = call.args
    if not isinstance(equation, str) or len(operands) != 2 or "->" not in equation or "." in equation:
        return None
    left, result = equation.replace(" ", "").split("->")
    terms = left.split(",")
    held = [i for i, operand in enumerate(operands) if isinstance(operand, Held)]
    if len(terms) != 2 or len(held) != 1 or not isinstance(operands[1 - held[0]], Labelled):
        return None
    w_term, x_term = terms[held[0]], terms[1 - held[0]]
    contracted = [c for c in w_term if c in x_term and c not in result]
    new = [c for c in w_term if c not in x_term and c in result]
    if len(w_term) != 2 or len(contracted) != 1 or len(new) != 1:
        return None
    source = call.operand(2 - held[0], "")
    letters = set(x_term) - {contracted[0]} | {new[0]}
    if source is None or any(len(set(term)) != len(term) for term in (x_term, result)) or not set(result) <= letters:
        return None
    weight, value = operands[held[0]].tensor, operands[1 - held[0]]
    layout = Layout(w_term.index(new[0]), w_term.index(contracted[0]))
    sizes = {**dict(zip(x_term, value.shape, strict=True)), new[0]: weight.shape[layout.out_axis]}
    shape, summed = torch.Size(sizes[letter] for letter in result), letters != set(result)
    dims = x_term.index(contracted[0]), result.index(new[0])
    return MixArguments("einsum", source, value, weight, None, layout, dims[0], summed, shape, dims[1])


PLAIN = (torch.conv1d, torch.conv2d, torch.conv3d)
TRANSPOSED = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
"""Convolutions as functions, by their dimensions of space, from one on."""
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_MATMULS = (torch.matmul, operator.matmul, torch.mm, "matmul", "mm", "__matmul__")

_BIAS_AT: dict[Any, int] = {**dict.fromkeys((F.linear, *PLAIN, *TRANSPOSED), 2), torch.addmm: 0}


def bias_of(node: fx.Node) -> Any:
    """Return what a mixing function adds, as the graph gives it; None: nothing, or it takes no bias."""
    place = _BIAS_AT.get(node.target)
    if place is None:
        return None
    return node.args[place] if place < len(node.args) else node.kwargs.get("bias" if place else "input")


_READERS: dict[Any, Any] = {
    **dict.fromkeys(_CONVOLUTIONS, _convolution_module),
    **dict.fromkeys((*PLAIN, *TRANSPOSED), _convolution_function),
    nn.Linear: _linear_module,
    F.linear: _linear_function,
    **dict.fromkeys(_MATMULS, _matmul),
    torch.addmm: _addmm,
    torch.einsum: _einsum,
}

register(OpRule(Kind.MIX, mix, Transfer.MIX), *_CONVOLUTIONS, *PLAIN, *TRANSPOSED, nn.Linear, F.linear, torch.addmm)
register(OpRule(Kind.MATMUL, mix_or_contract, Transfer.MIX), *_MATMULS, torch.einsum)
