"""Channels that die in every network with a hazard: exact, and at the target, or refused in a sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from campfire_fx.base.errors import CampfireError
from campfire_fx.cost.measure import macs
from campfire_fx.training.sparsify import sparsify
from tests.assertions import assert_same_output
from tests.nets import CASES, Case
from tests.random_zeros import randomise

# No channel can go, or too few of them, or no layer can hold a mask; what is refused says which.
STAY = {
    "AttentionOverSpace", "AveragedWeights", "BestChannels", "BiasInParts", "ConstantsSummedByEinsum", "Equations",
    "FilledByABuffer", "FunctionalLayers", "LayersWithTheirOwnForward", "MaskedWithOne", "OwnFunctionOverChannels",
    "PatchesUnfolded", "PooledOverItsWholeLength", "Recurrent", "SlicedWeights", "StandardisedWeights",
    "TiedTransposed", "TransposedMatrix", "WeightNorm",
}  # fmt: skip
REFUSED = (
    "none of this model can go", "cannot be met; the least is", "no convolution", "has a method of that name",
)  # fmt: skip


@pytest.mark.parametrize("regime", ["channel", "channel-combined"])
@pytest.mark.parametrize("case", CASES.values(), ids=str)
def test_the_slim_network_is_exact_and_meets_the_target(case: Case, regime: str) -> None:
    torch.manual_seed(0)
    model, inputs = randomise(case.build().double(), 0, positive=case.positive), case.example()
    wishes: dict[str, Any] = {"target": {"macs": 0.7}, "at_least": 0.0, "example_inputs": inputs}
    if case.name in STAY:
        with pytest.raises(CampfireError) as error:
            sparsify(model, regime, **wishes)
        assert any(words in str(error.value) for words in REFUSED)
        return
    sparse = sparsify(model, regime, **wishes)
    slim = sparse.finalize().eval().shrink()
    assert_same_output(sparse, slim, inputs)
    assert macs(slim, inputs).total <= 0.7 * macs(model, inputs).total
