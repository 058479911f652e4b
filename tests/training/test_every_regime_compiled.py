"""Every regime under torch.compile: one graph, whatever the masks do, and the run that there is without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.utils import counters
from torch.optim import SGD

from tests.sparse_training import assert_same_state, batches, masks, sparse, train
from tests.training.every_regime import every_mechanism

DATA = [(x.double(), y) for x, y in batches(12)]  # in float32 rounding could move a mask whose weights are close


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


@every_mechanism
def test_one_graph_trains_as_the_model_does_while_masks_move(regime: str) -> None:
    compiled, plain = sparse(regime).double(), sparse(regime).double()
    runs = (compiled, torch.compile(compiled, backend="aot_eager", fullgraph=True)), (plain, plain)
    seen = []
    for model, run in runs:
        optimizer = SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
        torch.manual_seed(0)  # a first mask may be drawn at random
        before = masks(model)
        model.attach(optimizer, steps_per_epoch=2)
        seen.append([before, *(masks(model) for _ in train(run, optimizer, DATA))])
    # SWAT has one more for the steps that compute thresholds: the first one, and the eleventh, which uses it again.
    assert counters["stats"]["unique_graphs"] == (2 if regime.startswith("swat") else 1)
    assert not counters["graph_break"], dict(counters)
    assert_same_state(*seen)
    assert any(not torch.equal(seen[0][0][name], mask) for name, mask in seen[0][-1].items()), "no mask moved"
    for name, value in plain.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-10, atol=1e-12)
