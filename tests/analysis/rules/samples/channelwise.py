"""Calls with one parameter per channel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.analysis.rules.alone import Act, Par, Sample
from tests.analysis.rules.samples.family import Samples, add

SAMPLES: Samples = {}

for _norm in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm):
    _shape = {nn.BatchNorm1d: "NCW", nn.BatchNorm3d: "NCTHW"}.get(_norm, "NCHW")
    add(
        SAMPLES,
        [_norm],
        Sample((Act(_shape),), module=lambda norm=_norm: norm(4)),
        Sample(kwargs={"input": Act(_shape)}, args=(), module=lambda norm=_norm: norm(4)),
        Sample((Act(_shape),), module=lambda norm=_norm: norm(4, affine=False)),
        # Without running statistics a norm measures its input: a constant minus itself, then shifted.
        Sample((Act(_shape),), module=lambda norm=_norm: norm(4, track_running_stats=False), constants="any"),
    )
add(
    SAMPLES,
    [nn.BatchNorm1d],
    Sample((Act("NC"),), module=lambda: nn.BatchNorm1d(4), resize=False),
)

_STATISTICS = (Par("C"), Par("C"))
add(
    SAMPLES,
    [F.batch_norm],
    Sample((Act(), *_STATISTICS, Par("C"), Par("C"))),
    Sample((Act(), *_STATISTICS), {"weight": Par("C"), "bias": Par("C")}),
    Sample((Act(), *_STATISTICS)),
    Sample((), {"input": Act(), "running_mean": Par("C"), "running_var": Par("C"), "weight": Par("C")}),
    Sample((Act(), *_STATISTICS, Par("C"), Par("C"), True), constants="any"),
    Sample((Act(), None, None, Par("C"), Par("C"), True), constants="any"),
    Sample((Act(), *_STATISTICS), {"training": True, "weight": Par("C")}, constants="any"),
    Sample((Act(), Act("C"), Act("C")), free=0, constants="any"),
)
add(
    SAMPLES,
    [torch.batch_norm],
    Sample((Act(), Par("C"), Par("C"), *_STATISTICS, False, 0.1, 1e-5, False)),
    Sample((Act(), None, None, *_STATISTICS, False, 0.1, 1e-5, False)),
    Sample((Act(), Par("C"), Par("C"), *_STATISTICS, True, 0.1, 1e-5, False), constants="any"),
)
for _norm, _shape in ((nn.InstanceNorm1d, "NCW"), (nn.InstanceNorm2d, "NCHW"), (nn.InstanceNorm3d, "NCTHW")):
    add(
        SAMPLES,
        [_norm],
        Sample((Act(_shape),), module=lambda norm=_norm: norm(4), constants="any"),
        Sample((Act(_shape),), module=lambda norm=_norm: norm(4, affine=True), constants="any"),
        Sample((Act(_shape[1:]),), module=lambda norm=_norm: norm(4, affine=True), constants="any"),
        Sample(
            (Act(_shape),), module=lambda norm=_norm: norm(4, affine=True, track_running_stats=True), constants="any"
        ),
    )
add(
    SAMPLES,
    [F.instance_norm],
    Sample(constants="any"),
    Sample((Act(), None, None, Par("C"), Par("C")), constants="any"),
    Sample((Act(), Par("C"), Par("C")), {"use_input_stats": False}, constants="any"),
)
add(
    SAMPLES,
    [torch.instance_norm],
    Sample((Act(), Par("C"), Par("C"), None, None, True, 0.1, 1e-5, False), constants="any"),
    Sample((Act(), Par("C"), Par("C"), Par("C"), Par("C"), False, 0.1, 1e-5, False), constants="any"),
)
add(
    SAMPLES,
    [nn.PReLU],
    Sample(module=nn.PReLU),
    Sample(module=lambda: nn.PReLU(4)),
    Sample((Act("NC"),), module=lambda: nn.PReLU(4), resize=False),
    Sample((Act("NTC"),), module=nn.PReLU),
)
add(
    SAMPLES,
    [F.prelu, torch.prelu],
    Sample((Act(), Par("C"))),
    Sample((Act(), Par("1"))),
    Sample((Act("NC"), Par("C")), resize=False),
    Sample((), {"input": Act(), "weight": Par("C")}),
    Sample((Act(), Act("C")), free=0, constants="any"),
)
