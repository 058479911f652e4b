"""Element-wise operations: labels pass through, and labels of several tensors that meet at a position are joined."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx.analysis.labels import Labelled, broadcast_shape, collapse, varies
from campfire_fx.analysis.rules.barriers import barrier
from campfire_fx.analysis.rules.record import Call, Constant, Rule, register
from campfire_fx.analysis.rules.structure import fixed


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
    plain = [fixed(t.shape) for t in _plain_tensors(call) if t.ndim]
    for value in found:
        if any(_meets(call.structure.forest.find(value.labels), other.shape) for other in plain):
            call.structure.pin(call.where(), "a tensor that depends on no input has a number for each of them", value)
    return join_all(call, [*found, *plain])


def _meets(labels: Tensor, shape: torch.Size) -> bool:
    """Whether a tensor of some shape has entries of its own for channels."""
    aligned = zip(range(labels.ndim - 1, -1, -1), reversed(shape), strict=False)
    return any(size > 1 and varies(labels, dim) for dim, size in aligned)


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
    """Pass the labels of the first tensor on; of others every number is read."""
    value = call.get(0, "input")
    if not isinstance(value, Labelled):
        return barrier(call, "its input is not an activation")
    call.structure.pin(
        call.where(), "it reads their values one by one", *(v for v in call.labelled() if v is not value)
    )
    return value


def cast(call: Call) -> Any:
    """Pass the labels of the tensor that is cast on; of another, only its kind of numbers counts.

    A tensor that depends on no activation stays one that depends on none.
    """
    value = call.get(0, "input")
    if isinstance(value, Tensor):
        return value.to(call.example(call.node).dtype)
    return value if isinstance(value, Labelled) else barrier(call, "its input is not an activation")


def choose(call: Call) -> Any:
    """Join the labels of a condition and of both tensors chosen from; alone, a condition is asked where it holds."""
    if len(call.args) + len(call.kwargs) < 3:
        return barrier(call, "data decides how many places it finds")
    return elementwise(call)


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
    F.rrelu_: (3, False),
    _STOCHASTIC_DEPTH: (3, True),
}
_UNARY = ("relu", "sigmoid", "tanh", "exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "abs",
          "absolute", "neg", "negative", "positive", "square", "reciprocal", "erf", "erfc", "erfinv", "sin", "cos",
          "tan", "asin", "arcsin", "acos", "arccos", "atan", "arctan", "sinh", "cosh", "asinh", "arcsinh", "acosh",
          "arccosh", "atanh", "arctanh", "round", "floor", "ceil", "trunc", "fix", "frac", "selu", "celu", "deg2rad",
          "rad2deg", "lgamma", "digamma", "i0", "sinc", "logit")  # fmt: skip
_CASTS = ("float", "half", "double", "bfloat16", "to", "type", "type_as", "requires_grad_", "cpu", "cuda")
_PRODUCTS = ("mul", "multiply")
_BINARY = ("add", "sub", "div", "subtract", "divide", "true_divide", "rsub", "maximum", "minimum", "lerp",
           "addcmul", "addcdiv", "atan2", "arctan2", "clamp", "clamp_min", "clamp_max", "clip", "logaddexp",
           "logaddexp2")  # fmt: skip
_REFLECTED = ("__add__", "__radd__", "__sub__", "__truediv__", "__rsub__", "__iadd__")
_OPERATORS = (operator.add, operator.sub, operator.truediv, operator.neg, operator.pos, operator.abs,
              operator.iadd, operator.isub, operator.itruediv)  # fmt: skip
# In the label run, `parts += [x]` makes a new list: what reads the old name later reads this node.
_ON_SEQUENCES: dict[Any, Any] = {
    operator.add: operator.add, operator.iadd: operator.add, operator.mul: operator.mul, operator.imul: operator.mul,
}  # fmt: skip
# These answer the same for NaN as for some number, so what is unknown is marked anew in what they give.
_SWALLOWING = ("sign", "sgn", "nan_to_num", "isnan", "isfinite", "isinf", "isposinf", "isneginf", "signbit",
               "logical_not", "hardshrink", "bool", "long", "int", "short", "byte", "char")  # fmt: skip
_SWALLOWING_BINARY = ("fmax", "fmin", "heaviside", "gt", "lt", "ge", "le", "eq", "ne", "logical_and", "logical_or",
                      "logical_xor", "greater", "greater_equal", "less", "less_equal", "not_equal", "isclose", "pow",
                      "float_power", "floor_divide", "remainder", "fmod", "threshold", "copysign", "hypot", "xlogy",
                      "ldexp", "nextafter")  # fmt: skip
_SWALLOWING_OPERATORS = (operator.pow, operator.floordiv, operator.mod, operator.gt, operator.lt, operator.ge,
                         operator.le, operator.eq, operator.ne, operator.and_, operator.or_, operator.xor,
                         operator.invert, operator.ipow, operator.imod, operator.ifloordiv, operator.iand,
                         operator.ior, operator.ixor)  # fmt: skip
# Results in the shape of a tensor whose values do not count.
_LIKE = ("zeros_like", "ones_like", "full_like")
_DRAWN_LIKE = ("rand_like", "randn_like", "randint_like", "empty_like")


def both_forms(names: tuple[str, ...]) -> list[Any]:
    """Return the torch functions and the method names for operations that exist as both."""
    functions = [getattr(torch, name) for name in names if callable(getattr(torch, name, None))]
    return [*dict.fromkeys(functions), *(name for name in names if hasattr(Tensor, name))]


def all_forms(names: tuple[str, ...]) -> list[Any]:
    """Return the functions and method names of operations, and those of their forms in place."""
    return both_forms((*names, *(f"{name}_" for name in names)))


register(Rule("pass", pass_on, Constant.EXECUTE), *dict.fromkeys([*_ACTIVATIONS, *all_forms(_UNARY)]))
register(Rule("pass", pass_on, Constant.EXECUTE, makes=True), *both_forms(_LIKE), *both_forms(("zero_",)))
register(Rule("pass", pass_on, Constant.TAINT), *both_forms(_DRAWN_LIKE))
register(Rule("cast", cast, Constant.EXECUTE), *_CASTS)
register(Rule("pass", pass_on, Constant.EXECUTE, random=_draws), *_DRAWING)
register(
    Rule("element-wise", elementwise, Constant.EXECUTE),
    *dict.fromkeys([*all_forms(_BINARY), *_REFLECTED, *_OPERATORS, "expand_as"]),
)
register(Rule("element-wise", elementwise, Constant.EXECUTE, makes=True), *both_forms(("fill", "fill_")))
register(Rule("element-wise", choose, Constant.EITHER), *both_forms(("where", "masked_fill", "masked_fill_")))
register(
    Rule("element-wise", elementwise, Constant.PRODUCT),
    *dict.fromkeys([*all_forms(_PRODUCTS), "__mul__", "__rmul__", "__imul__", operator.mul, operator.imul]),
)
register(
    Rule("element-wise", elementwise, Constant.POINTWISE),
    *dict.fromkeys([*all_forms(_SWALLOWING), *all_forms(_SWALLOWING_BINARY), *_SWALLOWING_OPERATORS]),
    *(nn.Hardshrink, nn.Threshold, F.hardshrink, F.threshold),
)
register(Rule("gated halves", gate_halves, Constant.PRODUCT), nn.GLU, F.glu)
