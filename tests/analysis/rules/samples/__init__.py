"""Small calls for every row of the rule table, with what is true of each. A row without samples fails the tests."""

from __future__ import annotations

from tests.analysis.rules.samples import (
    channelwise,
    complex_numbers,
    fake_quantisation,
    mixing,
    movement,
    norms,
    picking,
    pointwise,
    pooling,
)
from tests.analysis.rules.samples.family import Samples

SAMPLES: Samples = {}
for _family in (channelwise, complex_numbers, fake_quantisation, mixing, movement, norms, picking, pointwise, pooling):
    for _target, _samples in _family.SAMPLES.items():
        SAMPLES.setdefault(_target, []).extend(_samples)
