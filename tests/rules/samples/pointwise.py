"""Element-wise calls."""

from __future__ import annotations

import operator

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import stochastic_depth

from tests.rules.alone import Act, Fixed, Par, Sample
from tests.rules.samples.family import Samples, add, both, classes

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
classes(SAMPLES, nn.Hardshrink, (nn.Threshold, lambda: nn.Threshold(0.1, 20.0)), constants="none")
add(
    SAMPLES,
    [F.relu, F.relu6, F.hardtanh, F.hardswish, F.hardsigmoid, F.sigmoid, F.tanh, F.gelu, F.silu, F.mish, F.elu],
    Sample(),
)
add(SAMPLES, [F.relu_, F.hardtanh_, F.elu_, F.selu_, F.celu_, F.leaky_relu_], Sample())
add(SAMPLES, [F.relu, F.relu6, F.hardswish, F.silu, F.elu], Sample(kwargs={"inplace": True}))
add(SAMPLES, [F.selu, F.celu, F.leaky_relu, F.softplus, F.softsign, F.logsigmoid, F.tanhshrink, F.softshrink], Sample())
add(SAMPLES, [F.rrelu], Sample(), Sample(kwargs={"training": True}, constants="any", random=True))
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
add(SAMPLES, both("zeros_like", "ones_like"), Sample())
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
add(SAMPLES, ["clamp_", "clamp_min_", "clamp_max_", "clip_"], Sample((Act(), 0.5)), Sample((Act(), Act())))
add(SAMPLES, ["relu_", "sigmoid_", "tanh_", "exp_", "sqrt_", "neg_", "abs_", "square_"], Sample())
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
add(SAMPLES, ["type_as"], Sample((Act(), Act("NDT")), free=10, made=4))

ADDS = both("add", "sub", "div", "subtract", "divide", "true_divide")
for _target in (
    *ADDS,
    *(operator.add, operator.sub, operator.truediv, operator.iadd, operator.isub, operator.itruediv),
    *("add_", "sub_", "div_", "__add__", "__radd__", "__sub__", "__truediv__", "__rsub__", "__iadd__"),
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
add(SAMPLES, both("maximum", "minimum", "atan2"), Sample((Act(), Act())), Sample((Act(), Act("NC11"))))
add(SAMPLES, [operator.neg, operator.pos, operator.abs], Sample())
add(
    SAMPLES,
    [torch.where],
    Sample((Act(dtype=torch.bool), Act(), Act()), constants="any"),
    Sample((Act("N1HW", torch.bool), Act(), 0.0), constants="any"),
    Sample((Act(dtype=torch.bool), Act(), Act("C11")), constants="any"),
)
add(SAMPLES, ["where"], Sample((Act(), Act(dtype=torch.bool), Act()), constants="any"))
add(SAMPLES, both("lerp"), Sample((Act(), Act(), 0.3)), Sample((Act(), Act(), Act())))
add(SAMPLES, ["lerp_"], Sample((Act(), Act(), 0.3)))
add(
    SAMPLES,
    [*both("addcmul", "addcdiv"), "addcmul_", "addcdiv_"],
    Sample((Act(), Act(), Act())),
    Sample((Act(), Act(), Par("C11")), {"value": 0.5}),
)

for _target in (*both("mul", "multiply"), "mul_", "__mul__", "__rmul__", "__imul__", operator.mul, operator.imul):
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

add(
    SAMPLES,
    both("sign", "nan_to_num", "isnan", "isfinite", "isinf", "hardshrink", "signbit", "sgn"),
    Sample(constants="none"),
)
add(SAMPLES, [F.hardshrink], Sample(constants="none"))
add(
    SAMPLES,
    [*both("fmax", "fmin", "heaviside", "copysign", "floor_divide", "remainder", "fmod")],
    Sample((Act(), Act()), constants="none"),
    Sample((Act(), Par("C11")), constants="none"),
)
add(
    SAMPLES,
    [
        *both("gt", "lt", "ge", "le", "eq", "ne", "greater", "less", "pow", "float_power"),
        *(operator.gt, operator.lt, operator.ge, operator.le, operator.eq, operator.ne),
        *(operator.pow, operator.floordiv, operator.mod, operator.ipow),
    ],
    Sample((Act(), 2.0), constants="none"),
    Sample((Act(), Act()), constants="none"),
)
BOOL = Act(dtype=torch.bool)
add(
    SAMPLES,
    [*both("logical_and", "logical_or", "logical_xor"), operator.and_, operator.or_],
    Sample((BOOL, BOOL), constants="none"),
)
add(SAMPLES, [*both("logical_not"), operator.invert], Sample((BOOL,), constants="none"))
add(SAMPLES, both("masked_fill"), Sample((Act(), BOOL, 0.0), constants="none"))
add(SAMPLES, ["bool", "long", "int"], Sample(constants="none"))
add(SAMPLES, [*both("threshold"), F.threshold], Sample((Act(), 0.1, 20.0), constants="none"))
add(SAMPLES, [nn.GLU], Sample(module=lambda: nn.GLU(1), free=2), Sample(module=nn.GLU, constants="any", resize=False))
add(
    SAMPLES,
    [F.glu],
    Sample((Act(), 1), free=2),
    Sample((Act(), -1), constants="any", resize=False),
    Sample((), {"input": Act(), "dim": -3}, free=2),
    Sample((Act("NTC"),), free=2),
)
