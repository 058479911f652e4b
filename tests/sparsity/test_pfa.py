"""Principal filter analysis: counts and choice of channels, against loops written from its definition."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity.regimes.pfa import analysed, by_energy, by_entropy
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import layer

IMAGES = torch.randn(40, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Floats = NDArray[np.float64]


class Chain(nn.Module):
    """Three layers; of the first, two filters nearly do what others do, and one is always zero behind its ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Linear(6 * 4, 2)
        with torch.no_grad():
            for copy, of in ((6, 1), (7, 3)):
                self.first.weight[copy] = self.first.weight[of] + 0.01 * torch.randn(3, 3, 3)
            self.first.weight[2], self.first.bias[2] = 0.0, -1.0  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        return self.third(F.relu(self.second(F.relu(self.first(x)))).flatten(1))


class Stream(nn.Module):
    """A residual stream that two layers write, and two others read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inside, self.out = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 1), nn.Conv2d(5, 8, 1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(F.relu(x + self.out(F.relu(self.inside(x))))).mean((2, 3))


def made(kind: Callable[[], nn.Module]) -> Any:
    torch.manual_seed(0)
    return kind().double()


def pruned(net: Any, regime: str, **wishes: Any) -> Any:
    model = sparsify(net, regime, example_inputs=IMAGES, prune_stem=True, **wishes)
    model.gather(lambda model, batch: model(batch).sum(), IMAGES.split(15)).finalize()
    assert not model._life_cycle.state.memory
    return model


def left_in(model: Any, name: str) -> list[int]:
    return layer(model, name).mask.flatten(1).any(1).nonzero().flatten().tolist()


def covariance(given: Tensor, channels: int) -> Floats:
    """Of the maxima over space of what a layer is given."""
    peaks = given.detach().reshape(len(given), channels, -1)
    seen = [[max(peaks[i, c].tolist()) for c in range(channels)] for i in range(len(given))]
    return np.cov(np.array(seen).T, bias=True)


def eigenvalues(matrix: Floats) -> list[float]:
    return sorted((max(0.0, value) for value in np.linalg.eigvals(matrix).real.tolist()), reverse=True)


def count_by_energy(matrix: Floats, keep: float) -> int:
    values = eigenvalues(matrix)
    return next(k for k in range(1, len(values) + 1) if sum(values[:k]) / sum(values) >= keep)


def count_by_kl(matrix: Floats) -> int:
    values, n = eigenvalues(matrix), len(matrix)
    shares = [value / sum(values) for value in values]
    divergence = sum(share * math.log(share * n) for share in shares if share > 0)
    return math.ceil(n * (1 - divergence / math.log(n)))


def chosen(matrix: Floats, count: int) -> list[int]:
    """What stays of all that is active: out goes, again and again, what correlates most with the rest."""
    n = len(matrix)
    left = [c for c in range(n) if matrix[c, c] > 1e-8 * max(np.diag(matrix))]

    def correlation(a: int, b: int) -> float:
        return abs(float(matrix[a, b])) / math.sqrt(float(matrix[a, a] * matrix[b, b]))

    while len(left) > count:
        sums = {a: sum(correlation(a, b) for b in left if b != a) for a in left}
        most = [a for a in left if math.isclose(sums[a], max(sums.values()), rel_tol=1e-9)]
        left.remove(max(most, key=lambda a: max((round(correlation(a, b), 9) for b in left if b != a), default=0.0)))
    return left


def seen_in_chain(net: Any) -> dict[str, Floats]:
    first = F.relu(net.first(IMAGES))
    return {"first": covariance(first, 8), "second": covariance(F.relu(net.second(first)), 6)}


@pytest.mark.parametrize("lost", [0.3, 0.05, 0.001])
def test_each_set_keeps_its_share_of_the_energy(lost: float) -> None:
    net = made(Chain)
    model, counts = pruned(net, "pfa", threshold=lost), []
    for name, matrix in seen_in_chain(net).items():
        counts.append(count_by_energy(matrix, 1 - lost))
        assert left_in(model, name) == chosen(matrix, counts[-1])
    assert sum(counts) < 14


def test_the_spectrum_alone_says_how_many_stay() -> None:
    net = made(Chain)
    model = pruned(net, "pfa-kl", sparsity=0.1)
    for name, matrix in seen_in_chain(net).items():
        assert left_in(model, name) == chosen(matrix, count_by_kl(matrix))
    assert 2 not in left_in(model, "first") and sum(len(left_in(model, name)) for name in ("first", "second")) < 13


def test_a_sparsity_is_one_share_for_all_sets() -> None:
    """Of all sets together those go behind which the least energy is left."""
    net = made(Chain)
    model, matrices, behind = pruned(net, "pfa", sparsity=0.5), seen_in_chain(net), []
    for name, matrix in matrices.items():
        values = eigenvalues(matrix)
        behind += [(sum(values[place:]) / sum(values), name) for place in range(len(values))]
    stay = [name for _, name in sorted(behind, reverse=True)[:7]]
    assert {name: left_in(model, name) for name in matrices} == {
        name: chosen(matrix, stay.count(name)) for name, matrix in matrices.items()
    }


def test_a_stream_is_judged_by_all_that_read_it() -> None:
    net = made(Stream)
    stem = net.stem(IMAGES)
    inside = F.relu(net.inside(stem))
    whole = covariance(stem, 8) + covariance(F.relu(stem + net.out(inside)), 8)
    model = pruned(net, "pfa", threshold=0.1)
    expected = chosen(whole, count_by_energy(whole, 0.9))
    assert left_in(model, "stem") == left_in(model, "out") == expected and 0 < len(expected) < 8
    assert layer(model, "last").mask[0].flatten(1).any(1).nonzero().flatten().tolist() == expected
    matrix = covariance(inside, 5)
    assert left_in(model, "inside") == chosen(matrix, count_by_energy(matrix, 0.9))


def test_layers_of_one_dimension_are_watched_too() -> None:
    signals = IMAGES.flatten(2)
    net = made(lambda: nn.Sequential(nn.Conv1d(3, 8, 5), nn.ReLU(), nn.Conv1d(8, 2, 3)))
    model = sparsify(net, "pfa-kl", example_inputs=signals, prune_stem=True)
    model.gather(lambda model, batch: model(batch).sum(), [signals]).finalize()
    matrix = covariance(net[1](net[0](signals)), 8)
    assert left_in(model, "0") == chosen(matrix, count_by_kl(matrix)) != list(range(8))


def test_extremes_of_the_spectrum() -> None:
    """All uncorrelated: all stay; all the same: one; of a set of one: it; nothing to lose: still in the right order."""
    same, none = np.ones((5, 5)), np.eye(5)
    assert (by_entropy(none) > 0).all() and (by_entropy(same) > 0).sum() == 1 == (by_entropy(np.ones((1, 1))) > 0).sum()
    assert (by_energy(same) > 1e-9).sum() == 1 and by_energy(none).max() == pytest.approx(1)
    assert analysed(same)[1].tolist() == [4, 3, 2, 1, 0]
    assert analysed(np.diag([1.0, 0.0, 2.0, 0.0]))[1].tolist() == [1, 6, 0, 4]
    assert by_energy(same).argsort().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("threshold", [-0.1, 1, float("nan"), True, "much"])
def test_a_threshold_is_a_share(threshold: Any) -> None:
    with pytest.raises(
        RegimeError, match=r"threshold: .* is no share of energy\. Give what may be lost, from 0 to below"
    ):
        sparsify(made(Chain), "pfa", threshold=threshold, example_inputs=IMAGES)


def test_without_data_it_is_refused() -> None:
    with pytest.raises(
        RegimeError, match=r"channels by principal filter analysis: nothing was seen of the data\. Call"
    ):
        sparsify(made(Chain), "pfa-kl", example_inputs=IMAGES).finalize()
