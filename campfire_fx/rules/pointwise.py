"""Element-wise operations: labels pass through, and labels of several tensors that meet at a position are joined."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx.labels import Labelled, broadcast_shape, collapse, varies
from campfire_fx.rules.barriers import barrier
from campfire_fx.rules.record import Call, Constant, Rule, register
from campfire_fx.rules.structure import fixed


def elementwise(call: Call) -> Any:
    """Join the labels of all tensors position by position.

    A tensor of length 1 along a dimension where another's labels differ is read by all of that one's channels:
    it stays whole (its labels are pinned) and imposes nothing.
    """
    if any(isinstance(value, (tuple, list)) for value in call.args):
        return _of_sequences(call)
    found = call.labelled()
    if len(found) + len(_plain_tensors(call)) == 1:
        return found[0]
    values = [*found, *(fixed(t.shape) for t in _plain_tensors(call) if t.ndim)]
    return join_all(call, values)


def _of_sequences(call: Call) -> Any:
    """Join or repeat lists of tensors, which is what Python's + and * do to them: no channel meets another."""
    operation = _ON_SEQUENCES.get(call.target)
    return barrier(call, "it takes a list") if operation is None else operation(*call.args)


def _plain_tensors(call: Call) -> list[Tensor]:
    return [v for v in (*call.args, *call.kwargs.values()) if isinstance(v, Tensor)]


def join_all(call: Call, values: list[Labelled]) -> Labelled:
    """Join labelled tensors as a broadcasting operation meets them; returns the labels of the result."""
    structure = call.structure
    shape = broadcast_shape(*(v.shape for v in values))
    views = [structure.forest.find(v.labels[(None,) * (len(shape) - v.labels.ndim)]) for v in values]
    views = [view for view in views if view.numel() > 1 or view.any()] or views[:1]  # a number that stays says nothing
    differing = [dim for dim in range(len(shape)) if any(varies(view, dim) for view in views)]
    meeting = [view for view in views if all(view.shape[d] == shape[d] for d in differing)]
    read_whole = [view for view in views if all(view is not other for other in meeting)]
    structure.pin(call.where(), "it is spread over other channels", *read_whole)
    if not meeting:
        return fixed(shape)
    for other in meeting[1:]:
        structure.forest.join(meeting[0], other)
    joined = structure.forest.find(_widest(meeting))
    return Labelled(joined.expand(shape))


def _widest(views: list[Tensor]) -> Tensor:
    """Return the labels with all dimensions that differ: joined views agree, so broadcast and take the smallest."""
    stacked = torch.broadcast_tensors(*(collapse(view) for view in views))
    return torch.stack(stacked).amin(0) if len(stacked) > 1 else stacked[0]


def gate_halves(call: Call) -> Any:
    """Join the two halves of a gated linear unit; the first half's labels leave."""
    value = call.get(0, "input")
    dim = call.get(1, "dim", -1)
    if not isinstance(value, Labelled):
        return barrier(call, "its input is not an activation")
    first, second = value.labels.chunk(2, dim)
    call.structure.forest.join(first, second)
    return Labelled(call.structure.forest.find(first))


def pass_on(call: Call) -> Any:
    """Pass the labels of the first tensor on."""
    found = call.labelled()
    return found[0] if found else barrier(call, "its input is not an activation")


def _draws(call: Call) -> bool:
    """Whether a function drops at random although the model is in evaluation mode."""
    target: Any = call.target if call.target in _DRAWING else _STOCHASTIC_DEPTH
    position, default = _DRAWING[target]
    return bool(call.get(position, "train" if target is torch.dropout else "training", default))


_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Tanhshrink, nn.Softshrink),
    *(nn.RReLU, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
    *(nn.FeatureAlphaDropout,),
    *(F.relu, F.relu_, F.relu6, F.hardtanh, F.hardtanh_, F.hardswish, F.hardsigmoid, F.sigmoid, F.tanh, F.gelu),
    *(F.silu, F.mish, F.elu, F.elu_, F.selu, F.selu_, F.celu, F.celu_, F.leaky_relu, F.leaky_relu_, F.softplus),
    *(F.softsign, F.logsigmoid, F.tanhshrink, F.softshrink),
)
_STOCHASTIC_DEPTH = "torchvision.ops.stochastic_depth:stochastic_depth"
# Functions that draw random numbers where their argument `training` says so: its place, and its default.
_DRAWING: dict[Any, tuple[int, bool]] = {
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d), (2, True)),
    **dict.fromkeys((F.alpha_dropout, F.feature_alpha_dropout), (2, False)),
    torch.dropout: (2, True),
    F.rrelu: (3, False),
    _STOCHASTIC_DEPTH: (3, True),
}
_UNARY = ("relu", "sigmoid", "tanh", "exp", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt", "abs", "neg", "square",
          "reciprocal", "erf", "sin", "cos", "round", "floor", "ceil",
          "trunc", "negative", "positive", "atan", "sinh", "cosh", "selu", "celu", "zeros_like",
          "ones_like")  # fmt: skip
_CASTS = ("float", "half", "double", "bfloat16", "to", "type", "type_as", "requires_grad_", "cpu",
          "cuda", "relu_", "sigmoid_", "tanh_", "exp_", "sqrt_", "neg_", "abs_", "square_")  # fmt: skip
_PRODUCTS = ("mul", "multiply", "mul_", "__mul__", "__rmul__", "__imul__")
# A tensor expanded like another has that one's channels, as their sum would.
_BINARY = ("add", "sub", "div", "subtract", "divide", "true_divide", "rsub", "maximum", "minimum", "where", "lerp",
           "addcmul", "addcdiv", "atan2", "clamp", "clamp_min", "clamp_max", "clip", "expand_as")  # fmt: skip
_IN_PLACE = ("add_", "sub_", "div_", "addcmul_", "addcdiv_", "lerp_", "clamp_", "clamp_min_", "clamp_max_", "clip_",
             "__add__", "__radd__", "__sub__", "__truediv__", "__rsub__", "__iadd__")  # fmt: skip
_OPERATORS = (operator.add, operator.sub, operator.truediv, operator.neg, operator.pos, operator.abs,
              operator.iadd, operator.isub, operator.itruediv)  # fmt: skip
# In the label run, `parts += [x]` makes a new list: what reads the old name later reads this node.
_ON_SEQUENCES: dict[Any, Any] = {
    operator.add: operator.add, operator.iadd: operator.add, operator.mul: operator.mul, operator.imul: operator.mul,
}  # fmt: skip
# These answer the same for NaN as for some number, so a constant found through them proves nothing.
_SWALLOWING = ("sign", "nan_to_num", "fmax", "fmin", "heaviside", "gt", "lt", "ge", "le", "eq", "ne", "isnan",
               "isfinite", "isinf", "logical_and", "logical_or", "logical_not", "logical_xor", "greater", "less",
               "pow", "float_power", "floor_divide", "remainder", "fmod", "masked_fill", "bool", "long", "int",
               "hardshrink", "threshold", "signbit", "copysign", "sgn")  # fmt: skip
_SWALLOWING_OPERATORS = (operator.pow, operator.floordiv, operator.mod, operator.gt, operator.lt, operator.ge,
                         operator.le, operator.eq, operator.ne, operator.and_, operator.or_, operator.invert,
                         operator.ipow)  # fmt: skip


def both_forms(names: tuple[str, ...]) -> list[Any]:
    """Return the torch functions and the method names for operations that exist as both."""
    functions = [getattr(torch, name) for name in names if callable(getattr(torch, name, None))]
    return [*dict.fromkeys(functions), *(name for name in names if hasattr(Tensor, name))]


register(Rule("pass", pass_on, Constant.EXECUTE), *dict.fromkeys([*_ACTIVATIONS, *both_forms(_UNARY), *_CASTS]))
register(Rule("pass", pass_on, Constant.EXECUTE, random=_draws), *_DRAWING)
register(
    Rule("element-wise", elementwise, Constant.EXECUTE),
    *dict.fromkeys([*both_forms(_BINARY), *_IN_PLACE, *_OPERATORS]),
)
register(
    Rule("element-wise", elementwise, Constant.PRODUCT),
    *dict.fromkeys([*both_forms(_PRODUCTS), operator.mul, operator.imul]),
)
register(
    Rule("element-wise", elementwise, Constant.TAINT),
    *dict.fromkeys([*both_forms(_SWALLOWING), *_SWALLOWING_OPERATORS]),
    *(nn.Hardshrink, nn.Threshold, F.hardshrink, F.threshold),
)
register(Rule("gated halves", gate_halves, Constant.PRODUCT), nn.GLU, F.glu)
