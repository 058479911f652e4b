"""The assertions of the sparse-training tests fail on what they should fail on."""

from __future__ import annotations

import pytest
import torch
from torch.optim import SGD

from tests.sparse_training import assert_same_state, assert_zero_under_masks, batches, layer, sparse, train


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"a": torch.zeros(2)}, {"a": torch.tensor([0, 1e-30])}),
        ({"a": torch.zeros(2)}, {"b": torch.zeros(2)}),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}),
        ([1], [1, 1]),
    ],
)
def test_states_that_differ_are_told_apart(first: object, second: object) -> None:
    assert_same_state(first, first)
    with pytest.raises((AssertionError, ValueError)):
        assert_same_state(first, second)


@pytest.mark.parametrize("what", ["weight", "gradient", "momentum"])
def test_a_value_under_a_mask_is_seen(what: str) -> None:
    model = sparse(era=(0, 0))
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    model.attach(optimizer)
    for _ in train(model, optimizer, batches(1)):
        assert_zero_under_masks(model, optimizer)
    conv = layer(model, "conv1")
    assert conv.weight.grad is not None
    found = {
        "weight": conv.weight.data,
        "gradient": conv.weight.grad,
        "momentum": optimizer.state[conv.weight]["momentum_buffer"],
    }[what]
    found[~conv.mask] = 1e-6
    with pytest.raises(AssertionError):
        assert_zero_under_masks(model, optimizer)
