"""Channels by reconstruction: the Gram matrix, both orders and the repair, against loops and another library."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Lasso
from torch import Tensor, nn

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity.reconstruction import by_lasso, descend, greedily
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import layer

IMAGES = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Pair(nn.Module):
    """A convolution whose channels one layer reads: few places of outputs, so that all are looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x))).mean((2, 3))


@pytest.fixture
def net() -> Pair:
    torch.manual_seed(0)
    return Pair().double()


def brought(net: Pair) -> Tensor:
    """What each channel brings to each output of the second layer, (outputs, 8)."""
    x = F.relu(net.first(IMAGES)).detach()
    found = []
    for c in range(8):
        one = torch.zeros_like(x)
        one[:, c] = x[:, c]
        found.append(F.conv2d(one, net.second.weight.detach(), None, 2, 1).flatten())
    return torch.stack(found, 1)


def pruned(net: Pair, regime: str) -> Any:
    model = sparsify(net, regime, sparsity=0.5, example_inputs=IMAGES)
    return model.gather(lambda model, batch: model(batch).sum(), IMAGES.split(3)).finalize()


def left_in(model: Any) -> list[int]:
    return layer(model, "first").mask.flatten(1).any(1).nonzero().flatten().tolist()


def assert_repaired(net: Pair, model: Any, left: list[int]) -> None:
    """Each input channel that is left has the factor of the least squares, and the output comes nearer by it."""
    found = brought(net).numpy()
    factors, *_ = np.linalg.lstsq(found[:, left], found.sum(1), rcond=None)
    expected = net.second.weight.detach()[:, left] * torch.from_numpy(factors)[:, None, None]
    torch.testing.assert_close(model.get_parameter("second.weight")[:, left], expected, rtol=1e-6, atol=1e-9)
    wanted, plain = found.sum(1), found[:, left].sum(1)
    assert np.linalg.norm(found[:, left] @ factors - wanted) < 0.99 * np.linalg.norm(plain - wanted)


def test_thinet_removes_greedily_and_repairs(net: Pair) -> None:
    """Algorithm 1 by loops: next goes the channel with which the square of what is gone is the smallest."""
    x, gone = brought(net), []
    while len(gone) < 4:
        rest = [c for c in range(8) if c not in gone]
        gone.append(min(rest, key=lambda c: float(x[:, [*gone, c]].sum(1).square().sum())))
    model = pruned(net, "thinet")
    assert left_in(model) == sorted(set(range(8)) - set(gone))
    assert_repaired(net, model, left_in(model))
    assert not model._life_cycle.state.memory


def test_lasso_channels_are_those_of_the_path_and_repaired(net: Pair) -> None:
    x = brought(net).numpy()
    model = pruned(net, "lasso-channels")
    strengths = np.abs(x.T @ x.sum(1)).max() * np.geomspace(1, 1e-4, 60)[1:]
    entered: list[int] = []
    for strength in strengths:
        lasso = Lasso(alpha=strength / len(x), fit_intercept=False, tol=1e-12, max_iter=100_000).fit(x, x.sum(1))
        new = [c for c in np.flatnonzero(lasso.coef_).tolist() if c not in entered]
        entered += sorted(new, key=lambda c: -abs(lasso.coef_[c]))
    assert left_in(model) == sorted(entered[:4])
    assert_repaired(net, model, left_in(model))


def test_coordinate_descent_solves_the_lasso() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(50, 6))
    total, factors = x.T @ x, np.zeros(6)
    descend(total, total.sum(1), np.diag(total), factors, 20.0)
    expected = Lasso(alpha=20 / 50, fit_intercept=False, tol=1e-12).fit(x, x.sum(1)).coef_
    np.testing.assert_allclose(factors, expected, atol=1e-7)
    assert len(set(by_lasso(total))) == 6


def test_the_greedy_order_is_that_of_its_definition() -> None:
    generator = np.random.default_rng(1)
    x = generator.normal(size=(30, 5)) * np.arange(1, 6)
    scores, gone = greedily(x.T @ x), []
    for place in itertools.count(1):
        rest = [c for c in range(5) if c not in gone]
        if not rest:
            break
        gone.append(min(rest, key=lambda c: float(np.square(x[:, [*gone, c]].sum(1)).sum())))
        assert scores[gone[-1]] == place


def test_without_data_it_is_refused(net: Pair) -> None:
    with pytest.raises(
        RegimeError, match=r"nothing was seen of the data\. Call gather\(loss_fn, loader\) before the era"
    ):
        sparsify(net, "thinet", sparsity=0.5, example_inputs=IMAGES).finalize()
