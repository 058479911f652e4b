"""Calls of fake quantisation, their observers off. They round, so constants are compared as they come out."""

from __future__ import annotations

import torch

from tests.analysis.rules.alone import Act, Fixed, Par, Sample
from tests.analysis.rules.samples.family import Samples, add

SAMPLES: Samples = {}
_SWITCHES = (Fixed(torch.zeros(1, dtype=torch.long)), Fixed(torch.ones(1, dtype=torch.long)))
_RANGE = (Fixed(torch.tensor(-2.0)), Fixed(torch.tensor(2.0)))
_SCALE = (Fixed(torch.tensor([4 / 255])), Fixed(torch.zeros(1, dtype=torch.int32)))

add(
    SAMPLES,
    [torch.fused_moving_avg_obs_fake_quant],
    Sample((Act(), *_SWITCHES, *_RANGE, *_SCALE, 0.01, -128, 127, -1, False, True)),
)
add(
    SAMPLES,
    [torch.fake_quantize_per_tensor_affine],
    Sample((Act(), 0.1, 0, -128, 127)),
    Sample((Act(), *_SCALE, -128, 127)),
)
add(
    SAMPLES,
    [torch.fake_quantize_per_channel_affine],
    Sample((Act(), Par("C"), Fixed(torch.zeros(4, dtype=torch.int32)), 1, -128, 127), runs=False),  # in float32 alone
)
