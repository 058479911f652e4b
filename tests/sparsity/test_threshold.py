"""A threshold in place of a count, group by group."""

from __future__ import annotations

import pytest
import torch

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import ELEMENT, KERNEL, Below, Goal, Regime, l1, largest
from tests.sparse_training import OPTIMIZERS, batches, layer, sparse, train


@pytest.mark.parametrize("deviations", [False, True])
@pytest.mark.parametrize("part", [0.25, 1.0])
def test_what_does_not_exceed_it_dies(part: float, deviations: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 4, 9).double()
    mask = torch.rand(weight.shape) > 0.3
    weight = weight * mask
    found = Below(KERNEL, l1, 0.8, deviations)(weight, mask, Goal(0.6 * part, 0.6))
    living = [number * number for number in weight[mask].tolist()]
    limit = 0.8 * part * ((sum(living) / len(living)) ** 0.5 if deviations else 1.0)
    for k in range(5):
        for c in range(4):
            dies = sum(map(abs, weight[k, c].tolist())) / 9 <= limit
            assert torch.equal(found[k, c], torch.zeros(9, dtype=torch.bool) if dies else mask[k, c])
    assert (int(found.sum()) < int(mask.sum())) == (part == 1.0) and bool(found.any())


def test_the_best_group_stays_and_the_first_of_equals_die() -> None:
    weight = torch.ones(2, 2, 1)
    found = Below(ELEMENT, largest, 5.0)(weight, weight > 0, Goal(0.5, 0.5))
    assert found.flatten().tolist() == [False, False, False, True]


def test_what_it_has_come_to_is_in_the_record() -> None:
    rule = Below(ELEMENT, largest, 1.0, deviations=True)
    model = sparse(Regime("below", rule, rule, None), sparsity=0.9)
    optimizer = OPTIMIZERS["nesterov"](model.parameters())
    model.attach(optimizer, steps_per_epoch=2)
    for _ in train(model, optimizer, batches(9)):
        pass
    pruned = [layer(model, name).mask for name in ("conv1", "conv2", "point")]
    assert model.sparsity().true == sum(int((~mask).sum()) for mask in pruned) / sum(mask.numel() for mask in pruned)
    assert model.sparsity().true > 0.5, "of uniform weights 0.58 are below their root mean square"


@pytest.mark.parametrize("threshold", [-1, True, float("nan"), "1"])
def test_what_makes_no_sense_is_refused(threshold: object) -> None:
    with pytest.raises(RegimeError, match=r"is no number from 0 up\. Give the highest score that still dies\."):
        Below(ELEMENT, largest, threshold)  # type: ignore[arg-type]
