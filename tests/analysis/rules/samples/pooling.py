"""Calls over space and over chosen dimensions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.analysis.rules.alone import Act, Par, Sample
from tests.analysis.rules.samples.family import Samples, add, both

SAMPLES: Samples = {}
SPACE = {1: "W", 2: "HW", 3: "THW"}


def _module(kind: Any, *args: Any, **kwargs: Any) -> Any:
    return lambda: kind(*args, **kwargs)


for _n, _space in SPACE.items():
    _x, _bare = Act(f"NC{_space}"), Act(f"C{_space}")
    _max, _avg, _lp = (getattr(nn, f"{kind}Pool{_n}d") for kind in ("Max", "Avg", "LP"))
    add(
        SAMPLES,
        [_max],
        Sample((_x,), module=_module(_max, 3, 2, 1)),
        Sample((_x,), module=_module(_max, 2, ceil_mode=True)),
        Sample((_bare,), module=_module(_max, 2)),
        Sample((), {"input": _x}, module=_module(_max, 2)),
        Sample((_x,), module=_module(_max, 2, return_indices=True), constants="any"),
        Sample((Act("NT" + _space[1:] + "C"),), module=_module(_max, 2), free=0, constants="any") if _n > 1 else
        Sample((Act("NTC"),), module=_module(_max, 2), free=0, constants="any"),
    )  # fmt: skip
    add(
        SAMPLES,
        [_avg],
        Sample((_x,), module=_module(_avg, 2)),
        Sample((_bare,), module=_module(_avg, 2)),
        Sample((_x,), module=_module(_avg, 3, 1, 1), constants="zeros"),
        Sample((_x,), module=_module(_avg, 3, 1, 1, count_include_pad=False)),
        Sample((_x,), module=_module(_avg, 4, 3, ceil_mode=True)),
        Sample((_x,), module=_module(_avg, 4, 3, 1, ceil_mode=True, count_include_pad=False)),
    )
    add(SAMPLES, [_lp], Sample((_x,), module=_module(_lp, 2, 2), constants="zeros"))
    add(SAMPLES, [getattr(F, f"lp_pool{_n}d")], Sample((_x, 2.0, 2), constants="zeros"))
    add(
        SAMPLES,
        [getattr(F, f"max_pool{_n}d"), getattr(torch, f"max_pool{_n}d")],
        Sample((_x, 2)),
        Sample((_x, 3, 2, 1)),
        Sample((), {"input": _x, "kernel_size": 2, "ceil_mode": True}),
    )
    add(
        SAMPLES,
        [getattr(F, f"max_pool{_n}d")],
        Sample((_x, 2), {"return_indices": True}, constants="any"),
    )
    add(
        SAMPLES,
        [getattr(F, f"avg_pool{_n}d")],
        Sample((_x, 2)),
        Sample((_x, 3, 1, 1), constants="zeros"),
        Sample((_x, 3, 1, 1, False, False)),
        Sample((_x, 3), {"padding": 1, "count_include_pad": False}),
        Sample((), {"input": _x, "kernel_size": 3, "padding": 1}, constants="zeros"),
    )
    for _kind, _name in (("AdaptiveAvgPool", "adaptive_avg_pool"), ("AdaptiveMaxPool", "adaptive_max_pool")):
        _cls = getattr(nn, f"{_kind}{_n}d")
        add(
            SAMPLES,
            [_cls],
            Sample((_x,), module=_module(_cls, 1)),
            Sample((_x,), module=_module(_cls, 4)),
            Sample((_bare,), module=_module(_cls, 2)),
            Sample((Act(f"N{_space}C") if _n > 1 else Act("NTC"),), module=_module(_cls, 1), free=0, constants="any"),
        )
        add(SAMPLES, [getattr(F, f"{_name}{_n}d")], Sample((_x, 1)), Sample((_bare, 2)))
for _n in (2, 3):
    _x = Act(f"NC{SPACE[_n]}")
    add(
        SAMPLES,
        [getattr(F, f"avg_pool{_n}d")],
        Sample((_x, 3), {"stride": 1, "divisor_override": 2}, constants="zeros"),
        Sample((_x, 3, 1, 0, False, True, 2), constants="zeros"),
    )
    _avg = getattr(nn, f"AvgPool{_n}d")
    add(SAMPLES, [_avg], Sample((_x,), module=_module(_avg, 3, divisor_override=2), constants="zeros"))
add(SAMPLES, [torch.adaptive_avg_pool1d], Sample((Act("NCW"), 2)))

for _resize in (F.interpolate, F.upsample):
    add(
        SAMPLES,
        [_resize],
        Sample(kwargs={"scale_factor": 2}),
        Sample((), {"input": Act(), "size": (5, 7), "mode": "bilinear", "align_corners": False}),
        Sample((Act("NCW"),), {"size": 4, "mode": "linear"}),
        Sample((Act("NCTHW"), None, 2.0, "trilinear")),
        Sample(kwargs={"size": (4, 4), "mode": "area"}),
        Sample((Act("NHWC"), 4), free=0, constants="any", resize=False),
        Sample((Act("NCHD"), 4), constants="any", resize=False),
    )
add(SAMPLES, [F.interpolate], Sample(kwargs={"scale_factor": 0.5, "mode": "bilinear", "antialias": True}))
add(SAMPLES, [nn.Upsample], Sample(module=_module(nn.Upsample, scale_factor=2, mode="bicubic")))
add(SAMPLES, [nn.UpsamplingBilinear2d], Sample(module=_module(nn.UpsamplingBilinear2d, (5, 5))))
add(SAMPLES, [nn.UpsamplingNearest2d], Sample(module=_module(nn.UpsamplingNearest2d, scale_factor=3)))

add(
    SAMPLES,
    both("mean"),
    Sample((Act(), (2, 3))),
    Sample((Act(), [-2, -1], True)),
    Sample(kwargs={"dim": (2, 3), "keepdim": True}),
    Sample(kwargs={"axis": -1}),
    Sample((Act(), 1), free=1, constants="any"),
    Sample((Act("NGCHW"), 1), constants="any"),
    Sample((Act(), (1, 2, 3)), free=1, constants="any"),
    Sample(free=0, constants="none"),
)
add(SAMPLES, [torch.mean], Sample((), {"input": Act(), "dim": -1}))
add(
    SAMPLES,
    both("amax", "amin"),
    Sample((Act(), (2, 3))),
    Sample(kwargs={"dim": 2, "keepdim": True}),
    Sample((Act(), 1), free=1, constants="any"),
)
add(
    SAMPLES,
    both("max", "min"),
    Sample((Act(), 2)),
    Sample((Act(), 2, True)),
    Sample(kwargs={"dim": 1, "keepdim": True}, free=1, constants="any"),
    Sample((Act(), Act()), constants="any"),
    Sample((Act(), Par("C11")), constants="any"),
    Sample(free=0, constants="none"),
)
add(
    SAMPLES,
    both("sum"),
    Sample((Act(), (2, 3)), constants="zeros"),
    Sample(kwargs={"dim": 3, "keepdim": True}, constants="zeros"),
    Sample((Act(), 1), free=1, constants="any"),
    Sample((Act("NGCHW"), 1)),
    Sample((Act("NGCHW"), (1, 2)), free=1, constants="any"),
    Sample((Act("NGCHW"), (1, 3)), constants="any"),
    Sample((Act("BCHW"), 0), constants="zeros"),
    Sample(free=0, constants="none"),
)
add(
    SAMPLES,
    both("var", "std", "logsumexp", "prod", "median", "nansum"),
    Sample((Act(), 2), constants="none"),
    Sample(kwargs={"dim": 1, "keepdim": True}, free=1, constants="none"),
)
add(SAMPLES, both("var", "std"), Sample((Act(), (2, 3), True), constants="none"))
for _both in (torch.var_mean, torch.std_mean):
    add(
        SAMPLES,
        [_both],
        Sample((Act(), (2, 3)), {"correction": 0, "keepdim": True}, constants="none"),
        Sample(kwargs={"dim": 1, "keepdim": True}, free=1, constants="none"),
    )
add(
    SAMPLES,
    [*both("norm"), torch.linalg.norm, torch.linalg.vector_norm],
    Sample((Act(), 2, 2), constants="none"),
    Sample(kwargs={"dim": 1, "keepdim": True}, free=1, constants="none"),
    Sample(free=0, constants="none"),
)

add(
    SAMPLES,
    [*both("softmax", "log_softmax"), F.softmax, F.log_softmax, F.softmin],
    Sample((Act(), -1), constants="none"),
    Sample((Act(), 1), free=0, constants="none"),
    Sample(kwargs={"dim": 2}, constants="none"),
)
add(
    SAMPLES,
    both("cumsum", "cumprod"),
    Sample((Act(), 2), constants="none"),
    Sample((Act(), 1), free=0, constants="none"),
)
add(
    SAMPLES,
    [*both("softmax", "log_softmax", "cumsum", "cumprod"), F.softmax, F.log_softmax, F.softmin],
    Sample((Act("NGCHW"), 1), free=4, constants="none"),
    Sample((Act("NCG"), 2), free=4, constants="none"),
)
add(SAMPLES, [F.normalize], Sample((Act("NGCHW"), 2.0, 1), free=4, constants="none"))
add(SAMPLES, [nn.Softmax2d], Sample(module=nn.Softmax2d, free=0, constants="none"))
add(
    SAMPLES,
    both("argmax", "argmin", "any", "all", "count_nonzero", "nanmean"),
    Sample((Act(), 2), constants="none"),
    Sample((Act(), 1), free=1, constants="none"),
    Sample(free=0, constants="none"),
)
for _soft in (nn.Softmax, nn.LogSoftmax, nn.Softmin):
    add(
        SAMPLES,
        [_soft],
        Sample(module=_module(_soft, 1), free=0, constants="none"),
        Sample(module=_module(_soft, -1), constants="none"),
        Sample(module=_soft, free=0, constants="none"),
    )
add(
    SAMPLES,
    [F.normalize],
    Sample(free=0, constants="none"),
    Sample((Act(), 2.0, -1), constants="none"),
    Sample(kwargs={"dim": 2}, constants="none"),
)
add(SAMPLES, [nn.LocalResponseNorm], Sample(module=_module(nn.LocalResponseNorm, 3), free=0, constants="none"))
