"""Element-wise calls."""

from __future__ import annotations

import operator

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import stochastic_depth

from tests.analysis.rules.alone import Act, Fixed, Made, Par, Sample
from tests.analysis.rules.samples.family import Samples, add, both, classes

SAMPLES: Samples = {}
GRID = Act("1CHW")

classes(
    SAMPLES,
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Tanhshrink, nn.Softshrink),
    *(nn.RReLU, nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout),
)
classes(SAMPLES, nn.Dropout1d, args=(Act("NCW"),))
classes(SAMPLES, nn.Dropout3d, args=(Act("NCTHW"),))
classes(SAMPLES, (nn.ReLU, lambda: nn.ReLU(inplace=True)), (nn.Dropout, lambda: nn.Dropout(inplace=True)))
classes(SAMPLES, nn.Hardshrink, (nn.Threshold, lambda: nn.Threshold(0.1, 20.0)))
add(
    SAMPLES,
    [F.relu, F.relu6, F.hardtanh, F.hardswish, F.hardsigmoid, F.sigmoid, F.tanh, F.gelu, F.silu, F.mish, F.elu],
    Sample(),
)
add(SAMPLES, [F.relu_, F.hardtanh_, F.elu_, F.selu_, F.celu_, F.leaky_relu_], Sample())
add(SAMPLES, [F.relu, F.relu6, F.hardswish, F.silu, F.elu], Sample(kwargs={"inplace": True}))
add(SAMPLES, [F.selu, F.celu, F.leaky_relu, F.softplus, F.softsign, F.logsigmoid, F.tanhshrink, F.softshrink], Sample())
add(SAMPLES, [F.rrelu, F.rrelu_], Sample(), Sample(kwargs={"training": True}, constants="any", random=True))
for _drop, _x in (
    (F.dropout, Act()),
    (F.dropout1d, Act("NCW")),
    (F.dropout2d, Act()),
    (F.dropout3d, Act("NCTHW")),
    (F.alpha_dropout, Act()),
    (F.feature_alpha_dropout, Act()),
    (torch.dropout, Act()),
):
    add(SAMPLES, [_drop], Sample((_x, 0.4, False)))
    add(SAMPLES, [_drop], Sample((_x, 0.4), {("train" if _drop is torch.dropout else "training"): False}))
    add(SAMPLES, [_drop], Sample((_x, 0.4, True), constants="any", random=True))
for _drop in (F.dropout, F.dropout2d, F.dropout3d):  # they drop unless told not to
    add(SAMPLES, [_drop], Sample((Act("NCTHW") if _drop is F.dropout3d else Act(),), constants="any", random=True))
add(
    SAMPLES,
    ["torchvision.ops.stochastic_depth:stochastic_depth"],
    Sample((Act(), 0.2, "row", False), call=stochastic_depth),
    Sample((Act(), 0.2, "row"), {"training": False}, call=stochastic_depth),
    Sample((Act(), 0.2, "row"), call=stochastic_depth, constants="any", random=True),
)

add(
    SAMPLES,
    both("relu", "sigmoid", "tanh", "exp", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt", "abs", "neg", "square"),
    Sample(),
)
add(
    SAMPLES,
    both("reciprocal", "erf", "sin", "cos", "round", "floor", "ceil", "trunc", "negative", "positive"),
    Sample(),
)
add(SAMPLES, both("atan", "sinh", "cosh", "selu", "celu"), Sample())
_MORE = ("exp2 log10 absolute erfc erfinv tan asin arcsin acos arccos arctan asinh arcsinh acosh arccosh atanh arctanh "
         "fix frac deg2rad rad2deg lgamma digamma i0 sinc logit").split()  # fmt: skip
add(SAMPLES, both(*_MORE), Sample())
_UNARY = ("relu sigmoid tanh exp expm1 log log1p log2 sqrt rsqrt abs neg square reciprocal erf sin cos round floor "
          "ceil trunc negative atan sinh cosh selu celu").split()  # fmt: skip
add(SAMPLES, both(*(f"{name}_" for name in (*_UNARY, *_MORE))), Sample())
add(SAMPLES, both("zeros_like", "ones_like", "zero_"), Sample())
add(SAMPLES, both("full_like", "fill", "fill_"), Sample((Act(), 0.5)))
add(SAMPLES, both("rand_like", "randn_like", "empty_like"), Sample(constants="none", random=True))
add(SAMPLES, both("randint_like"), Sample((Act(), 5), constants="none", random=True))
add(
    SAMPLES,
    both("clamp", "clip"),
    Sample((Act(), 0.5, 0.6)),
    Sample(kwargs={"min": 0.5}),
    Sample((Act(), Par("C11"), Par("C11"))),
    Sample((Act(), Act(), Act())),
    Sample(kwargs={"max": Act()}),
)
add(
    SAMPLES,
    both("clamp_min", "clamp_max"),
    Sample((Act(), 0.5)),
    Sample((Act(), Par("C11"))),
    Sample((Act(), Act())),
)
add(SAMPLES, both("clamp_", "clamp_min_", "clamp_max_", "clip_"), Sample((Act(), 0.5)), Sample((Act(), Act())))
add(SAMPLES, ["float", "double", "cpu", "requires_grad_"], Sample())
add(SAMPLES, ["half", "bfloat16"], Sample())
add(SAMPLES, ["cuda"], Sample(runs=torch.cuda.is_available()))
add(
    SAMPLES,
    ["to"],
    Sample((Act(), torch.float32)),
    Sample((Act(), "cpu")),
    Sample(kwargs={"dtype": torch.float64}),
    Sample((Act(), torch.int64), constants="any"),
)
add(SAMPLES, ["type"], Sample((Act(), torch.float32)))
add(SAMPLES, ["type_as", "to"], Sample((Act(), Act("NDT")), free=10, made=4))
add(SAMPLES, ["type_as", "to"], Sample((Made(torch.full, ((2, 4), 0.5)), Act()), made=0, constants="any"))

ADDS = both("add", "sub", "div", "subtract", "divide", "true_divide")
for _target in (
    *ADDS,
    *(operator.add, operator.sub, operator.truediv, operator.iadd, operator.isub, operator.itruediv),
    *both("add_", "sub_", "div_", "subtract_", "divide_", "true_divide_"),
    *("__add__", "__radd__", "__sub__", "__truediv__", "__rsub__", "__iadd__"),
):
    add(
        SAMPLES,
        [_target],
        Sample((Act(), 2.0)),
        Sample((Act(), Act())),
        Sample((Act(), Par("C11"))),
        Sample((Act(), Fixed(torch.rand(4, 1, 1) + 0.5))),
        Sample((Act(), Par("1"))),
        Sample((Act(), Act("CHW"))),
        Sample((Act(), Act("1C11"))),
        Sample((Act(), Act("N1HW")), constants="any"),
        Sample((Act(), Fixed(torch.rand(1) + 0.5))),
    )
SMALLER_FIRST = (*ADDS, operator.add, operator.sub, operator.truediv, "__add__", "__radd__", "__sub__", "__truediv__")
add(
    SAMPLES,
    SMALLER_FIRST,
    Sample((Act("C11"), Act())),
    Sample((Act("NC11"), Act("N1HW")), constants="any"),
    Sample((Act("C"), Act("NTC"))),
)
add(SAMPLES, [operator.add, operator.sub, operator.truediv], Sample((2.0, Act())))
add(SAMPLES, [torch.add, torch.sub, "add", "sub"], Sample((Act(), Act()), {"alpha": 2}))
add(SAMPLES, both("div"), Sample((Act(), 0.3), {"rounding_mode": "floor"}, constants="any"))
add(SAMPLES, [torch.rsub], Sample((Act(), 2.0)), Sample((Act(), Act())))
add(
    SAMPLES,
    both("maximum", "minimum", "atan2", "arctan2", "atan2_", "arctan2_", "logaddexp", "logaddexp2"),
    Sample((Act(), Act())),
    Sample((Act(), Act("NC11"))),
)
add(SAMPLES, [operator.neg, operator.pos, operator.abs], Sample())
add(
    SAMPLES,
    [torch.where],
    Sample((Act(dtype=torch.bool), Act(), Act()), constants="any"),
    Sample((Act("N1HW", torch.bool), Act(), 0.0), constants="zeros"),
    Sample((Fixed(torch.tensor([True, False, True, False]).view(4, 1, 1)), Act(), 2.0), free=0),
    Sample((Act("NT", torch.bool),), free=0, constants="any", resize=False),
    Sample((Act(dtype=torch.bool), Act(), Act("C11")), constants="any"),
)
add(SAMPLES, ["where"], Sample((Act(), Act(dtype=torch.bool), Act()), constants="any"))
add(SAMPLES, both("lerp"), Sample((Act(), Act(), 0.3)), Sample((Act(), Act(), Act())))
add(SAMPLES, both("lerp_"), Sample((Act(), Act(), 0.3)))
add(
    SAMPLES,
    both("addcmul", "addcdiv", "addcmul_", "addcdiv_"),
    Sample((Act(), Act(), Act())),
    Sample((Act(), Act(), Par("C11")), {"value": 0.5}),
)

for _target in (
    *both("mul", "multiply", "mul_", "multiply_"),
    "__mul__",
    "__rmul__",
    "__imul__",
    operator.mul,
    operator.imul,
):
    add(
        SAMPLES,
        [_target],
        Sample((Act(), 2.0)),
        Sample((Act(), Act())),
        Sample((Act(), Act("NC11"))),
        Sample((Act(), Par("C11"))),
        Sample((Act(), Act("N1HW")), constants="any"),
        Sample((Act(), Fixed(torch.tensor([0.0, 1.0, 0.0, 2.0]).view(4, 1, 1)))),
    )
add(SAMPLES, [torch.mul, operator.mul, "mul"], Sample((Act("NC11"), Act())), Sample((Act("C"), Act("NTC"))))
add(SAMPLES, [operator.mul], Sample((2.0, Act())))
add(SAMPLES, [torch.mul], Sample((), {"input": Act(), "other": Act()}))

_SIGNS = ("sign sgn nan_to_num isnan isfinite isinf isposinf isneginf signbit hardshrink logical_not bool long int "
          "short byte char").split()  # fmt: skip
add(SAMPLES, both(*_SIGNS, *(f"{name}_" for name in _SIGNS)), Sample())
# Of the kind of numbers that they give, these return the tensor that they are given.
for _method, _kind in {
    "bool": torch.bool, "long": torch.long, "int": torch.int, "short": torch.short, "byte": torch.uint8,
    "char": torch.int8, "float": torch.float, "half": torch.half, "bfloat16": torch.bfloat16,
}.items():  # fmt: skip
    add(SAMPLES, [_method], Sample((Act(dtype=_kind),), constants="any"))
add(SAMPLES, ["type"], Sample((Act(), torch.float64)))
add(SAMPLES, [F.hardshrink], Sample())
_PAIRS = "fmax fmin heaviside copysign floor_divide remainder fmod hypot xlogy ldexp nextafter isclose".split()
add(SAMPLES, both(*_PAIRS, *(f"{name}_" for name in _PAIRS)), Sample((Act(), Act())), Sample((Act(), Par("C11"))))
_COMPARISONS = ("gt lt ge le eq ne greater greater_equal less less_equal not_equal pow float_power").split()
add(
    SAMPLES,
    [
        *both(*_COMPARISONS, *(f"{name}_" for name in _COMPARISONS)),
        *(operator.gt, operator.lt, operator.ge, operator.le, operator.eq, operator.ne),
        *(operator.pow, operator.floordiv, operator.mod, operator.ipow, operator.imod, operator.ifloordiv),
    ],
    Sample((Act(), 2.0)),
    Sample((Act(), Act())),
)
add(
    SAMPLES,
    [operator.pow, *both("pow", "float_power")],
    Sample((Act(), -1)),
    Sample((Act(), 0)),
    Sample((Act(), Act("C11"))),
)
add(SAMPLES, [operator.pow], Sample((2.0, Act())))
BOOL = Act(dtype=torch.bool)
_LOGIC = ("logical_and", "logical_or", "logical_xor")
add(
    SAMPLES,
    [*both(*_LOGIC), operator.and_, operator.or_, operator.xor, operator.iand, operator.ior, operator.ixor],
    Sample((BOOL, BOOL), constants="any"),
)
add(SAMPLES, both(*(f"{name}_" for name in _LOGIC)), Sample((Act(), Act())))
add(SAMPLES, [operator.invert], Sample((BOOL,), constants="any"))
add(
    SAMPLES,
    both("masked_fill", "masked_fill_"),
    Sample((Act(), BOOL, 0.0), constants="zeros"),
    Sample((Act(), Act("N1HW", torch.bool), 0.0), constants="zeros"),
    Sample((Act(), Fixed(torch.tensor([True, False, True, False]).view(4, 1, 1)), 2.0), free=0),
)
add(SAMPLES, [*both("threshold", "threshold_"), F.threshold], Sample((Act(), 0.1, 20.0)))
add(SAMPLES, [nn.GLU], Sample(module=lambda: nn.GLU(1), free=2), Sample(module=nn.GLU, constants="any", resize=False))
add(
    SAMPLES,
    [F.glu],
    Sample((Act(), 1), free=2),
    Sample((Act(), -1), constants="any", resize=False),
    Sample((), {"input": Act(), "dim": -3}, free=2),
    Sample((Act("NTC"),), free=2),
)
