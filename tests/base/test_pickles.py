"""What torch itself can pickle can be pickled slim and sparse, too, and comes back with the same output."""

from __future__ import annotations

import contextlib
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import campfire_fx
from campfire_fx.base.errors import CampfireError
from tests.nets import CASES, Case


def saved_and_loaded(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def can_be_pickled(model: nn.Module) -> bool:
    """Whether the model given can: torch refuses parametrized ones, and Python functions that lie in others."""
    try:
        pickle.dumps(model)
    except (RuntimeError, AttributeError, pickle.PicklingError) as error:
        return not any(known in str(error) for known in ("parametrized", "local object"))
    return True


@pytest.mark.parametrize("case", CASES.values(), ids=str)
def test_every_small_network_comes_back_slim_and_sparse(case: Case) -> None:
    model = case.model().eval()
    if not can_be_pickled(model):
        return
    inputs = tuple(torch.randn(shape, dtype=torch.float64) for shape in case.inputs)
    made = [campfire_fx.shrink(model, inputs, verify=False)]
    with contextlib.suppress(CampfireError):  # where there is nothing to train sparse
        made.append(campfire_fx.sparsify(model, sparsity=0.5, example_inputs=inputs).eval())
    for network in made:
        again = pickle.loads(pickle.dumps(network))
        assert type(again).__name__ == type(network).__name__
        torch.testing.assert_close(again(*inputs), network(*inputs), rtol=0, atol=0)


class Dispatched(nn.Module):
    """Functions of torch whose qualified names are not where they lie."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, places = F.max_pool2d(F.relu(self.conv(x)), 2, return_indices=True)
        x = F.max_unpool2d(F.adaptive_max_pool2d(x, 4), places, 2) + F.max_pool2d(F.adaptive_max_pool2d(x, 8), 1)
        return self.head(x)


def test_functions_that_pickle_does_not_find() -> None:
    x = torch.randn(2, 3, 8, 8)
    model = Dispatched().eval()
    sparse = campfire_fx.sparsify(model, sparsity=0.5, example_inputs=x).eval()
    for network in (campfire_fx.shrink(model, x), sparse, sparse.shrink()):
        assert torch.equal(saved_and_loaded(network)(x), network(x))


def test_a_sparse_model_that_was_saved_trains_on() -> None:
    x = torch.randn(2, 3, 8, 8)
    again = saved_and_loaded(campfire_fx.sparsify(Dispatched(), sparsity=0.5, example_inputs=x)).train()
    before = again.conv.weight.detach().clone()
    optimizer = torch.optim.SGD(again.parameters(), lr=0.1)
    again.attach(optimizer, steps_per_epoch=1)
    again(x).sum().backward()
    optimizer.step()
    assert not torch.equal(again.conv.weight, before)
