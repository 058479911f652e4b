"""Calls that data steers."""

from __future__ import annotations

import operator

import torch
import torch.nn.functional as F

from tests.analysis.rules.alone import Act, Sample
from tests.analysis.rules.samples.family import Samples, add, both

SAMPLES: Samples = {}
X = Act()
PLACES = Act("T", torch.long)
ALL = slice(None)

for _name in ("topk", "kthvalue"):
    add(
        SAMPLES,
        both(_name),
        Sample((X, 2)),
        Sample((X, 1, 2)),
        Sample((X, 2), {"dim": 1}, free=0, constants="none"),
        Sample((Act("NC"), 2), free=0, constants="none"),
    )
for _name in ("sort", "mode", "cummax", "cummin", "argsort"):
    add(
        SAMPLES,
        both(_name),
        Sample((X, -1)),
        Sample(kwargs={"dim": 2}),
        Sample((X, 1), free=0, constants="none"),
    )
add(SAMPLES, both("sort"), Sample(), Sample(kwargs={"stable": True, "dim": 3}))

add(
    SAMPLES,
    [operator.getitem],
    Sample((X, (ALL, ALL, PLACES))),
    Sample((X, (Act("T", torch.long), ALL, ALL, Act("T", torch.long)))),
    Sample((X, (0, ALL, PLACES, 1))),
    Sample((Act("NTC"), (Act("B", torch.long), Act("T", torch.long)))),
    Sample((Act("NTC"), Act("B", torch.long))),
    Sample((X, (ALL, PLACES)), free=0, constants="none"),
    Sample((X, (ALL, slice(1, 3), PLACES)), free=0, constants="none"),
    Sample((X, (Ellipsis, PLACES)), free=0, constants="none"),
)
add(
    SAMPLES,
    both("index_select"),
    Sample((X, 2, PLACES)),
    Sample((X, -1, PLACES)),
    Sample((X, 1, PLACES), free=0, constants="none"),
)
add(SAMPLES, both("gather"), Sample((Act("NT"), 1, Act("NT", torch.long)), free=0, constants="any"))
add(SAMPLES, both("take_along_dim"), Sample((X, Act("NCHW", torch.long), 3), free=0, constants="any"))
add(
    SAMPLES,
    [F.grid_sample],
    Sample((X, Act("NHW2")), {"align_corners": False}, constants="zeros"),
    Sample((Act("NCTHW"), Act("N4553"), "nearest", "border", True), constants="zeros", resize=False),
    Sample((Act("NDWC"), Act("NHW2"), "bilinear", "zeros", False), free=0, constants="any", resize=False),
)
add(SAMPLES, [torch.grid_sampler], Sample((X, Act("NHW2"), 0, 0, False), constants="zeros"))
add(SAMPLES, [F.affine_grid], Sample((Act("N23"), [2, 3, 6, 6], False), free=0, constants="none"))
