"""Calls that make complex numbers and take them apart."""

from __future__ import annotations

import torch

from tests.analysis.rules.alone import Act, Sample
from tests.analysis.rules.samples.family import Samples, add

SAMPLES: Samples = {}
_COMPLEX = Act(dtype=torch.complex128)

for _part in (torch.real, torch.imag, torch.angle, torch.conj, torch.resolve_conj):
    add(SAMPLES, [_part], Sample((_COMPLEX,), constants="any"))
for _method in ("angle", "conj", "resolve_conj"):
    add(SAMPLES, [_method], Sample((_COMPLEX,), constants="any"))
add(SAMPLES, [torch.complex, torch.polar], Sample((Act(), Act()), constants="any"))
