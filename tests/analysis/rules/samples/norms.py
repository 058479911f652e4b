"""Calls that normalise channels with one another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.analysis.rules.alone import Act, Par, Sample
from tests.analysis.rules.samples.family import Samples, add

SAMPLES: Samples = {}
_LAST = Act("NTC")

add(
    SAMPLES,
    [nn.LayerNorm],
    Sample((_LAST,), module=lambda: nn.LayerNorm(4), free=0),
    Sample((_LAST,), module=lambda: nn.LayerNorm(4, elementwise_affine=False), free=0),
    Sample((Act("NCT"),), module=lambda: nn.LayerNorm(6), constants="any", resize=False),
    Sample((Act("NCHW"),), module=lambda: nn.LayerNorm((4, 6, 6)), free=0, constants="any", resize=False),
)
add(
    SAMPLES,
    [F.layer_norm, torch.layer_norm],
    Sample((_LAST, (4,)), free=0),
    Sample((_LAST, (4,), Par("C"), Par("C")), free=0),
    Sample((_LAST, [4]), {"weight": Par("C"), "eps": 1e-3}, free=0),
    Sample((_LAST, (4,), Act("C")), free=0, constants="any"),
)
add(
    SAMPLES,
    [nn.GroupNorm],
    Sample(module=lambda: nn.GroupNorm(2, 4), free=4, constants="any"),
    Sample(module=lambda: nn.GroupNorm(1, 4, affine=False), free=0),
    Sample(module=lambda: nn.GroupNorm(4, 4), constants="any"),
    Sample((Act("NC"),), module=lambda: nn.GroupNorm(2, 4), free=4, constants="any", resize=False),
    Sample((Act("N2C"),), module=lambda: nn.GroupNorm(2, 2), free=0, constants="any", resize=False),
)
add(
    SAMPLES,
    [F.group_norm, torch.group_norm],
    Sample((Act(), 2), free=4, constants="any"),
    Sample((Act(), 2, Par("C"), Par("C")), free=4, constants="any"),
    Sample((Act(), 2), {"bias": Par("C"), "weight": Par("C")}, free=4),
    Sample((Act(), 4), free=4, constants="any"),
    Sample((Act(), 2, Act("C")), free=0, constants="any"),
)
