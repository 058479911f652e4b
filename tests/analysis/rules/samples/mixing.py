"""Calls that mix channels with weights, products of two activations, and gates."""

from __future__ import annotations

import operator

import torch
import torch.nn.functional as F
from torch import nn

from campfire_fx.analysis.rules.gates import gate_add, gate_read, spread
from tests.analysis.rules.alone import Act, Par, Sample
from tests.analysis.rules.samples.family import Samples, add

SAMPLES: Samples = {}
SPACE = {1: "W", 2: "HW", 3: "THW"}
# With zero padding only zeros stay uniform.
PADDED = {"constants": "zeros"}

for _n, _conv, _transposed in (
    (1, nn.Conv1d, nn.ConvTranspose1d),
    (2, nn.Conv2d, nn.ConvTranspose2d),
    (3, nn.Conv3d, nn.ConvTranspose3d),
):
    _x = Act(f"NC{SPACE[_n]}")
    add(
        SAMPLES,
        [_conv],
        Sample((_x,), module=lambda conv=_conv: conv(4, 6, 3), made=6),
        Sample((_x,), module=lambda conv=_conv: conv(4, 6, 3, padding=1, bias=False), made=6, **PADDED),
        Sample((_x,), module=lambda conv=_conv: conv(4, 6, 3, padding="same"), made=6, **PADDED),
        Sample((_x,), module=lambda conv=_conv: conv(4, 6, 1, padding="same"), made=6),
        Sample((_x,), module=lambda conv=_conv: conv(4, 6, 3, padding=1, padding_mode="reflect"), made=6),
        Sample((_x,), module=lambda conv=_conv: conv(4, 6, 3, 2, 1, padding_mode="circular"), made=6),
        Sample((), {"input": _x}, module=lambda conv=_conv: conv(4, 6, 2, dilation=2), made=6),
        Sample((_x,), module=lambda conv=_conv: conv(4, 6, 3, groups=2), made=6),
        Sample((_x,), module=lambda conv=_conv: conv(4, 4, 3, groups=4), made=4),
        Sample((_x,), module=lambda conv=_conv: conv(4, 8, 3, groups=4, bias=False), made=8),
        Sample((Act(f"C{SPACE[_n]}"),), module=lambda conv=_conv: conv(4, 6, 3), made=6),
    )
    add(
        SAMPLES,
        [_transposed],
        Sample((_x,), module=lambda conv=_transposed: conv(4, 6, 2, 2), made=6, constants="any"),
        Sample((_x,), module=lambda conv=_transposed: conv(4, 6, 3, 2, 1, 1, bias=False), made=6, **PADDED),
        Sample((_x,), module=lambda conv=_transposed: conv(4, 6, 3, groups=2), made=6, constants="any"),
        Sample((_x,), module=lambda conv=_transposed: conv(4, 4, 3, groups=4), constants="any"),
        Sample((_x,), module=lambda conv=_transposed: conv(4, 8, 3, groups=4), made=8, constants="any"),
        Sample((Act(f"C{SPACE[_n]}"),), module=lambda conv=_transposed: conv(4, 6, 3), made=6, constants="any"),
        Sample(
            (_x, [13] * _n),
            module=lambda conv=_transposed: conv(4, 6, 3, 2),
            made=6,
            constants="any",
            resize=False,
            runs=False,
        ),
    )
    _plain, _taps = getattr(torch, f"conv{_n}d"), "3" * _n
    add(
        SAMPLES,
        [_plain],
        Sample((_x, Par(f"DC{_taps}")), made=6),
        Sample((_x, Par(f"DC{_taps}"), Par("D"), 1, 1), made=6, **PADDED),
        Sample((_x, Par(f"DC{_taps}"), Par("D")), {"padding": "same"}, made=6, **PADDED),
        Sample((_x, Par(f"DC{_taps}"), None, 2, 0, 1, 1), made=6),
        Sample((_x, Par(f"D2{_taps}"), None, 1, 0, 1, 2), made=6),
        Sample((_x,), {"weight": Par(f"C1{_taps}"), "bias": Par("C"), "groups": 4}, made=4),
        Sample((), {"input": _x, "weight": Par(f"DC{_taps}"), "bias": Par("D")}, made=6),
        Sample((Act(f"C{SPACE[_n]}"), Par(f"DC{_taps}")), made=6),
        Sample((_x, Act(f"DC{_taps}")), free=0, constants="none"),
    )
    add(
        SAMPLES,
        [getattr(torch, f"conv_transpose{_n}d")],
        Sample((_x, Par(f"CD{_taps}"), Par("D"), 2, 1), made=6, constants="any"),
        Sample((_x, Par(f"C3{_taps}")), {"groups": 2}, made=6, **PADDED),
        Sample((_x, Par(f"C1{_taps}"), None, 1, 0, 0, 4), made=4, **PADDED),
        Sample((), {"input": _x, "weight": Par(f"CD{_taps}")}, made=6, **PADDED),
    )

add(
    SAMPLES,
    [nn.Linear],
    Sample((Act("NC"),), module=lambda: nn.Linear(4, 6), made=6, resize=False),
    Sample((Act("NTC"),), module=lambda: nn.Linear(4, 6, bias=False), made=6),
    Sample((), {"input": Act("NHWC")}, module=lambda: nn.Linear(4, 6), made=6),
    Sample((Act("C"),), module=lambda: nn.Linear(4, 6), made=6, resize=False),
)
add(
    SAMPLES,
    [F.linear],
    Sample((Act("NTC"), Par("DC")), made=6),
    Sample((Act("NC"), Par("DC"), Par("D")), made=6, resize=False),
    Sample((), {"input": Act("NTC"), "weight": Par("DC"), "bias": Par("D")}, made=6),
    Sample((Act("NTC"), Act("DC")), free=0, constants="none"),
)
add(
    SAMPLES,
    [torch.addmm],
    Sample((Par("D"), Act("NC"), Par("CD")), made=6, resize=False),
    Sample((Par("D"), Act("NC"), Par("CD")), {"beta": 0.5}, free=0, constants="none", resize=False),
    Sample((Par("ND"), Act("NC"), Par("CD")), free=0, constants="none", resize=False),
)
add(
    SAMPLES,
    [torch.matmul, operator.matmul, "matmul", "__matmul__"],
    Sample((Act("NTC"), Par("CD")), made=6),
    Sample((Par("DC"), Act("NCT")), free=0, constants="none"),
    Sample((Act("NTC"), Par("C")), free=0, constants="none"),
    Sample((Act("NTC"), Act("NCT")), made=0, stuck=True, constants="none"),
    Sample((Act("NTT"), Act("NTC")), constants="zeros"),
    Sample((Act("NCT"), Act("NTT")), constants="zeros"),
    Sample((Act("NCT"), Act("NTD")), free=0, constants="none"),
    Sample((Act("NGTC"), Act("NGCT")), free=8, made=0, stuck=True, constants="none"),
    Sample((Act("N2TT"), Act("NGTC")), free=8, constants="zeros"),
    Sample((Act("NGCT"), Act("NTT")), free=8, constants="zeros"),
    Sample((Act("NGTT"), Act("NGTC")), free=0, constants="none"),
    Sample((Act("NTC"), Act("N4T")), free=0, constants="none"),
    Sample((Act("NCTT"), Act("NCTT")), free=0, constants="none"),
)
add(SAMPLES, [torch.matmul], Sample((), {"input": Act("NTC"), "other": Par("CD")}, made=6))
for _target in (torch.mm, "mm"):
    add(
        SAMPLES,
        [_target],
        Sample((Act("TC"), Par("CD")), made=6),
        Sample((Act("TT"), Act("TC")), constants="zeros"),
    )
add(
    SAMPLES,
    [torch.einsum],
    Sample(("nchw,dc->ndhw", Act(), Par("DC")), made=6),
    Sample(("cd,ntc->ntd", Par("CD"), Act("NTC")), made=6),
    Sample(("nchw,dc->nhwd", Act(), Par("DC")), made=6),
    Sample(("nchw,dc->nd", Act(), Par("DC")), made=6, constants="zeros"),
    Sample(("cd,nchw->wnd", Par("CD"), Act()), made=6, constants="zeros"),
    Sample(("nchw,c->nchw", Act(), Par("C")), free=0, constants="none"),
    Sample(("nct,nts->ncs", Act("NCT"), Act("NTT")), constants="zeros"),
    Sample(("...c,dc->...d", Act("NTC"), Par("DC")), free=0, constants="none"),
    Sample(("nchw,cc->nchw", Act(), Par("CC")), free=0, constants="none"),
)
add(
    SAMPLES,
    [torch.bmm, "bmm"],
    Sample((Act("NTT"), Act("NTC")), constants="zeros"),
    Sample((Act("NCT"), Act("NTT")), constants="zeros"),
    Sample((Act("NTC"), Act("NCT")), made=0, stuck=True, constants="none"),
)
add(
    SAMPLES,
    [torch.einsum],
    Sample(("bgid,bgjd->bgij", Act("NGTC"), Act("NGWC")), free=8, made=0, stuck=True, constants="none"),
    Sample(("bgij,bgjd->bigd", Act("N2TW"), Act("NGWC")), free=8, constants="zeros"),
    Sample(("bct,bt->bc", Act("NCT"), Act("NT")), constants="zeros"),
    Sample(("bct,bds->btsc", Act("NCT"), Act("NDT")), free=0, constants="none"),
    Sample(("bct,bct->bct", Act("NCT"), Act("NCT")), free=0, constants="none"),
)
_ATTENDING = (Act("N2TC"), Act("N2WC"))
add(
    SAMPLES,
    [F.scaled_dot_product_attention],
    Sample((*_ATTENDING, Act("N2WD")), free=10, made=6, constants="zeros"),
    Sample((*_ATTENDING, Act("NGWD")), {"attn_mask": Act("TW")}, free=16, made=12, constants="zeros"),
    Sample((*_ATTENDING, Act("N2WC"), None, 0.0, True), free=8, made=4, constants="zeros"),
)
add(SAMPLES, [gate_read], Sample((Act(), 1), free=4, made=4), Sample((Act("NTC"), 2), free=4, made=4))
add(
    SAMPLES,
    [spread],
    Sample((Act(), 1, [0, 4, 1, 2, 5, 3]), free=4, made=6),
    Sample((Act("NTC"), 2, [0, 1, 2, 3, 4]), free=4, made=5),
)
add(SAMPLES, [gate_add], Sample((Act(), Act(), 1), free=8, made=4), Sample((Act("NTC"), Act("NTE"), 2), free=8, made=4))
