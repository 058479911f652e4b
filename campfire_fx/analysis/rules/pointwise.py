"""Element-wise operations: labels pass through, and labels of several tensors that meet at a position are joined."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from campfire_fx.analysis.labels import Labelled, broadcast_shape, collapse, varies
from campfire_fx.analysis.rules.barriers import barrier
from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.kinds import Aliases, Kind, Shape, Transfer
from campfire_fx.analysis.rules.record import Call, OpRule, register
from campfire_fx.analysis.rules.structure import fixed


def elementwise(call: Call, found: Found) -> Any:
    """Join the labels of all tensors position by position.

    A tensor of length 1 along a dimension where another's labels differ is read by all of that one's channels:
    it stays whole (its labels are pinned) and imposes nothing.
    """
    if any(isinstance(value, (tuple, list)) for value in call.args):
        return _of_sequences(call, found)
    values = call.labelled()
    if len(values) + len(_plain_tensors(call)) == 1:
        return values[0]
    plain = [fixed(t.shape) for t in _plain_tensors(call) if t.ndim]
    for value in values:
        if any(_meets(found.forest.find(value.labels), other.shape) for other in plain):
            found.pin(call.where(), "a tensor that depends on no input has a number for each of them", value)
    return join_all(call, found, [*values, *plain])


def _meets(labels: Tensor, shape: torch.Size) -> bool:
    """Whether a tensor of some shape has entries of its own for channels."""
    aligned = zip(range(labels.ndim - 1, -1, -1), reversed(shape), strict=False)
    return any(size > 1 and varies(labels, dim) for dim, size in aligned)


def _of_sequences(call: Call, found: Found) -> Any:
    """Join or repeat lists of tensors, which is what Python's + and * do to them: no channel meets another."""
    operation = _ON_SEQUENCES.get(call.target)
    return barrier(call, found, "it takes a list") if operation is None else operation(*call.args)


def _plain_tensors(call: Call) -> list[Tensor]:
    return [v for v in (*call.args, *call.kwargs.values()) if isinstance(v, Tensor)]


def join_all(call: Call, found: Found, values: list[Labelled]) -> Labelled:
    """Join labelled tensors as a broadcasting operation meets them; returns the labels of the result."""
    shape = broadcast_shape(*(v.shape for v in values))
    views = [found.forest.find(v.labels[(None,) * (len(shape) - v.labels.ndim)]) for v in values]
    views = [view for view in views if view.numel() > 1 or view.any()] or views[:1]  # a number that stays says nothing
    differing = [dim for dim in range(len(shape)) if any(varies(view, dim) for view in views)]
    meeting = [view for view in views if all(view.shape[d] == shape[d] for d in differing)]
    read_whole = [view for view in views if all(view is not other for other in meeting)]
    found.pin(call.where(), "it is spread over other channels", *read_whole)
    if not meeting:
        return fixed(shape)
    for other in meeting[1:]:
        found.forest.join(meeting[0], other)
    joined = found.forest.find(_widest(meeting))
    return Labelled(joined.expand(shape))


def _widest(views: list[Tensor]) -> Tensor:
    """Return the labels with all dimensions that differ: joined views agree, so broadcast and take the smallest."""
    stacked = torch.broadcast_tensors(*(collapse(view) for view in views))
    return torch.stack(stacked).amin(0) if len(stacked) > 1 else stacked[0]


def gate_halves(call: Call, found: Found) -> Any:
    """Join the two halves of a gated linear unit; the first half's labels leave."""
    value = call.get(0, "input")
    dim = call.get(1, "dim", -1)
    if not isinstance(value, Labelled):
        return barrier(call, found, "its input is not an activation")
    first, second = value.labels.chunk(2, dim)
    found.forest.join(first, second)
    return Labelled(found.forest.find(first))


def pass_on(call: Call, found: Found) -> Any:
    """Pass the labels of the first tensor on; of others every number is read."""
    value = call.get(0, "input")
    if not isinstance(value, Labelled):
        return barrier(call, found, "its input is not an activation")
    found.pin(call.where(), "it reads their values one by one", *(v for v in call.labelled() if v is not value))
    return value


def cast(call: Call, found: Found) -> Any:
    """Pass the labels of the tensor that is cast on; of another, only its kind of numbers counts.

    A tensor that depends on no activation stays one that depends on none.
    """
    value = call.get(0, "input")
    if isinstance(value, Tensor):
        return value.to(call.example(call.node).dtype)
    return value if isinstance(value, Labelled) else barrier(call, found, "its input is not an activation")


def choose(call: Call, found: Found) -> Any:
    """Join the labels of a condition and of both tensors chosen from; alone, a condition is asked where it holds."""
    if len(call.args) + len(call.kwargs) < 3:
        return barrier(call, found, "data decides how many places it finds")
    return elementwise(call, found)


def condition_of(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return which of the arguments of a choice decides: the first of `where`, the second of all others."""
    place = 0 if node.target is torch.where else 1
    return args[place] if place < len(args) else kwargs.get("condition", kwargs.get("mask"))


def _draws(position: int, default: bool) -> Callable[[Call], bool]:
    """Read off the argument `training`, at this place, whether a function drops at random in evaluation too."""
    return lambda call: bool(call.get(position, "training", call.kwargs.get("train", default)))


_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Tanhshrink, nn.Softshrink),
    *(F.relu, F.relu_, F.relu6, F.hardtanh, F.hardtanh_, F.hardswish, F.hardsigmoid, F.sigmoid, F.tanh, F.gelu),
    *(F.silu, F.mish, F.elu, F.elu_, F.selu, F.selu_, F.celu, F.celu_, F.leaky_relu, F.leaky_relu_, F.softplus),
    *(F.softsign, F.logsigmoid, F.tanhshrink, F.softshrink, nn.RReLU),
)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_UNARY = ("relu", "sigmoid", "tanh", "exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "abs",
          "absolute", "neg", "negative", "square", "reciprocal", "erf", "erfc", "erfinv", "sin", "cos",
          "tan", "asin", "arcsin", "acos", "arccos", "atan", "arctan", "sinh", "cosh", "asinh", "arcsinh", "acosh",
          "arccosh", "atanh", "arctanh", "round", "floor", "ceil", "trunc", "fix", "frac", "selu", "celu", "deg2rad",
          "rad2deg", "lgamma", "digamma", "i0", "sinc", "logit")  # fmt: skip
_CASTS = ("float", "half", "double", "bfloat16", "to", "type", "type_as", "cpu", "cuda")
_SUMS = ("__add__", "__radd__", "__iadd__", operator.add, operator.iadd)
_DIFFERENCES = ("__sub__", operator.sub, operator.isub)
_QUOTIENTS = ("__truediv__", operator.truediv, operator.itruediv)
_PRODUCTS = ("__mul__", "__rmul__", "__imul__", operator.mul, operator.imul)
_BINARY = ("rsub", "maximum", "minimum", "lerp", "addcmul", "addcdiv", "atan2", "arctan2", "clamp", "clamp_min",
           "clamp_max", "clip", "logaddexp", "logaddexp2")  # fmt: skip
# In the label run, `parts += [x]` makes a new list: what reads the old name later reads this node.
_ON_SEQUENCES: dict[Any, Any] = {
    operator.add: operator.add, operator.iadd: operator.add, operator.mul: operator.mul, operator.imul: operator.mul,
}  # fmt: skip
# These answer the same for NaN as for some number, so what is unknown is marked anew in what they give.
_SWALLOWING = ("sign", "sgn", "nan_to_num", "isnan", "isfinite", "isinf", "isposinf", "isneginf", "signbit",
               "logical_not", "hardshrink")  # fmt: skip
_WHOLE = ("bool", "long", "int", "short", "byte", "char")
_SWALLOWING_BINARY = ("fmax", "fmin", "heaviside", "gt", "lt", "ge", "le", "eq", "ne", "logical_and", "logical_or",
                      "logical_xor", "greater", "greater_equal", "less", "less_equal", "not_equal", "isclose", "pow",
                      "float_power", "floor_divide", "remainder", "fmod", "threshold", "copysign", "hypot", "xlogy",
                      "ldexp", "nextafter")  # fmt: skip
_SWALLOWING_OPERATORS = (operator.pow, operator.floordiv, operator.mod, operator.gt, operator.lt, operator.ge,
                         operator.le, operator.eq, operator.ne, operator.and_, operator.or_, operator.xor,
                         operator.invert, operator.ipow, operator.imod, operator.ifloordiv, operator.iand,
                         operator.ior, operator.ixor)  # fmt: skip


def both_forms(names: tuple[str, ...]) -> list[Any]:
    """Return the torch functions and the method names for operations that exist as both."""
    functions = [getattr(torch, name) for name in names if callable(getattr(torch, name, None))]
    return [*dict.fromkeys(functions), *(name for name in names if hasattr(Tensor, name))]


def all_forms(names: tuple[str, ...]) -> list[Any]:
    """Return the functions and method names of operations, and those of their forms in place."""
    return both_forms((*names, *(f"{name}_" for name in names)))


register(OpRule(Kind.PASS, pass_on, Transfer.EXECUTE), *_ACTIVATIONS, *all_forms(_UNARY))
register(OpRule(Kind.PASS, pass_on, Transfer.EXECUTE, random=_draws(3, False)), F.rrelu, F.rrelu_)
# Results in the shape of a tensor whose values do not count.
register(OpRule(Kind.PASS, pass_on, Transfer.MAKE), *both_forms(("zeros_like", "ones_like", "full_like", "zero_")))
_DRAWN_LIKE = ("rand_like", "randn_like", "randint_like")
register(OpRule(Kind.PASS, pass_on, Transfer.TAINT, random=True), *both_forms(_DRAWN_LIKE))
register(OpRule(Kind.PASS, pass_on, Transfer.TAINT), *both_forms(("empty_like",)))
register(OpRule(Kind.DROP, pass_on, Transfer.EXECUTE, Aliases.SAME), *_DROPOUTS)
register(
    OpRule(Kind.DROP, pass_on, Transfer.EXECUTE, Aliases.VIEW, random=_draws(2, True)),
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, torch.dropout),
)
register(
    OpRule(Kind.DROP, pass_on, Transfer.EXECUTE, Aliases.VIEW, random=_draws(2, False)),
    *(F.alpha_dropout, F.feature_alpha_dropout),
)
register(
    OpRule(Kind.DROP, pass_on, Transfer.EXECUTE, Aliases.VIEW, random=_draws(3, True)),
    "torchvision.ops.stochastic_depth:stochastic_depth",
)
register(OpRule(Kind.CAST, cast, Transfer.EXECUTE, Aliases.VIEW), *_CASTS)
register(OpRule(Kind.CAST, cast, Transfer.EXECUTE, Aliases.SAME), *both_forms(("positive",)), operator.pos)
register(OpRule(Kind.CAST, cast, Transfer.EXECUTE), "requires_grad_")

register(OpRule(Kind.ADD, elementwise, Transfer.EXECUTE), *all_forms(("add",)), *_SUMS)
register(OpRule(Kind.SUBTRACT, elementwise, Transfer.EXECUTE), *all_forms(("sub", "subtract")), *_DIFFERENCES)
register(OpRule(Kind.DIVIDE, elementwise, Transfer.EXECUTE), *all_forms(("div", "divide", "true_divide")), *_QUOTIENTS)
register(OpRule(Kind.MULTIPLY, elementwise, Transfer.PRODUCT), *all_forms(("mul", "multiply")), *_PRODUCTS)
register(
    OpRule(Kind.ELEMENT_WISE, elementwise, Transfer.EXECUTE),
    *(*all_forms(_BINARY), "__rsub__", operator.neg, operator.abs),
)
register(OpRule(Kind.ELEMENT_WISE, elementwise, Transfer.EXECUTE, Aliases.VIEW, sizes=Shape.OTHER), "expand_as")
register(OpRule(Kind.ELEMENT_WISE, elementwise, Transfer.MAKE), *both_forms(("fill", "fill_")))
register(OpRule(Kind.ELEMENT_WISE, choose, Transfer.EITHER), *both_forms(("where", "masked_fill", "masked_fill_")))
register(
    OpRule(Kind.ELEMENT_WISE, elementwise, Transfer.POINTWISE),
    *(*all_forms(_SWALLOWING), *all_forms(_SWALLOWING_BINARY), *_SWALLOWING_OPERATORS),
    *(nn.Hardshrink, nn.Threshold, F.hardshrink, F.threshold),
)
register(OpRule(Kind.ELEMENT_WISE, elementwise, Transfer.POINTWISE, Aliases.VIEW), *_WHOLE)
register(OpRule(Kind.GATE_HALVES, gate_halves, Transfer.PRODUCT), nn.GLU, F.glu)
