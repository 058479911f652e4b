"""Scores of coupled groups against loops over numbers, written from their definitions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity.channels.coupling import CoupledLayer, Coupling
from campfire_fx.sparsity.channels.gathering import OF_A_BATCH, OF_A_STEP, change_of_loss, obd
from campfire_fx.sparsity.channels.layers import coupling_of, evidence_of
from campfire_fx.sparsity.channels.scores import OF_BATCHES, OF_STEPS, SCORES, normalised
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify
from tests.random_zeros import randomise

IMAGE = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
Numbers = list[float]


class Varied(nn.Module):
    """Two writers of a stream, a norm with and one without scale, depthwise, grouped, transposed, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.wide, self.deep = nn.Conv2d(6, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.free, self.back = nn.BatchNorm2d(8, affine=False), nn.Conv2d(8, 6, 1)
        self.grouped, self.bn2 = nn.Conv2d(6, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8)
        self.up, self.fc = nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Linear(4 * 144, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)))
        x = x + self.back(self.free(self.deep(F.relu(self.wide(x)))))
        x = F.relu(self.bn2(self.grouped(x)))
        return self.fc(F.relu(self.up(x)).flatten(1))


@pytest.fixture(scope="module")
def model() -> SparseModel:
    torch.manual_seed(3)
    net = randomise(Varied().double(), 3)
    return sparsify(net, "channel", target={"macs": 0.9}, example_inputs=IMAGE.double())


def layers_of(model: SparseModel) -> list[PrunedLayer]:
    cycle = model._life_cycle
    return [cycle.layer(model, name) for name in cycle.state.layers]


def weight_of(model: SparseModel, layer: CoupledLayer, k: int, c: int) -> list[float]:
    """Return the kernel from input channel c (of the whole layer) to filter k; none where no kernel is."""
    module: Any = model.get_submodule(layer.path)
    weight = module.weight.detach()
    groups = getattr(module, "groups", 1)
    filters, inputs = layer.outputs.size // groups, layer.inputs.size // groups
    if k // filters != c // inputs:
        return []
    if layer.out_axis == 1:
        return weight[c, k % filters].flatten().tolist()
    return weight[k, c % inputs].flatten().tolist()


def members(groups: Any, group: int) -> list[int]:
    return [place for place, number in enumerate(groups.reshape(-1).tolist()) if number == group]


def filters_of(model: SparseModel, coupling: Coupling, group: int) -> Iterator[tuple[CoupledLayer, int, Numbers]]:
    """Every filter that writes a group: layer, number, its weights."""
    for layer in coupling.layers:
        for k in members(layer.outputs, group):
            yield layer, k, [w for c in range(layer.inputs.size) for w in weight_of(model, layer, k, c)]


def read_by(model: SparseModel, layer: CoupledLayer, c: int) -> Numbers:
    return [w for k in range(layer.outputs.size) for w in weight_of(model, layer, k, c)]


def square(numbers: Numbers) -> float:
    return sum(number * number for number in numbers)


def norms_of(model: SparseModel, coupling: Coupling, group: int) -> Iterator[tuple[float, float]]:
    """(weight, bias) of every channel of a group in every norm that has a scale."""
    for path, writer in (("bn", "stem"), ("bn2", "grouped")):
        norm: Any = model.get_submodule(path)
        layer = next(layer for layer in coupling.layers if layer.path == writer)
        for k in members(layer.outputs, group):
            yield float(norm.weight[k].detach()), float(norm.bias[k].detach())


def readers(coupling: Coupling) -> list[CoupledLayer]:
    return [layer for layer in coupling.layers if layer.path != "deep"]  # a depthwise layer only passes channels on


def flow(model: SparseModel, coupling: Coupling, group: int) -> float:
    norms = [weight * weight + bias * bias for weight, bias in norms_of(model, coupling, group)]
    written = sum(norms)
    if not norms:
        for layer, k, weights in filters_of(model, coupling, group):
            bias: Any = model.get_submodule(layer.path).bias
            written += square(weights) + (0.0 if bias is None else float(bias[k].detach()) ** 2)
    read = 0.0
    for layer in readers(coupling):
        total = sum(square(read_by(model, layer, c)) for c in range(layer.inputs.size))
        read += sum(square(read_by(model, layer, c)) / total for c in members(layer.inputs, group))
    return written * read


def l1(model: SparseModel, coupling: Coupling, group: int) -> float:
    return sum(sum(abs(w) for w in weights) for _, _, weights in filters_of(model, coupling, group))


def l2(model: SparseModel, coupling: Coupling, group: int) -> float:
    return sum(math.sqrt(square(weights)) for _, _, weights in filters_of(model, coupling, group))


def norm_scale(model: SparseModel, coupling: Coupling, group: int) -> float:
    scales = [abs(weight) for weight, _ in norms_of(model, coupling, group)]
    return sum(scales) if scales else l2(model, coupling, group)


def fpgm(model: SparseModel, coupling: Coupling, group: int) -> float:
    total = 0.0
    for layer, _, weights in filters_of(model, coupling, group):
        others = [
            [w for c in range(layer.inputs.size) for w in weight_of(model, layer, k, c)]
            for k in range(layer.outputs.size)
        ]
        distances = [math.sqrt(sum((a - b) ** 2 for a, b in zip(weights, other, strict=True))) for other in others]
        size = math.sqrt(sum(square(other) for other in others) / len(others))
        total += sum(distances) / len(distances) / size
    return total


DEFINED = {"flow": flow, "l1": l1, "l2": l2, "norm_scale": norm_scale, "fpgm": fpgm}


@pytest.mark.parametrize("name", DEFINED)
def test_a_score_is_what_its_definition_says(model: SparseModel, name: str) -> None:
    layers = layers_of(model)
    coupling = coupling_of(layers)
    assert [one.name for one in coupling.sets] == ["stem", "wide", "grouped", "up"]
    found = SCORES[name].of(evidence_of(layers, coupling, np.ones(coupling.groups, dtype=np.bool_)))
    expected = [DEFINED[name](model, coupling, group) for group in range(coupling.groups)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_step_gathers_the_derivative_by_a_gate_that_all_readers_see(model: SparseModel) -> None:
    layers = layers_of(model)
    coupling = coupling_of(layers)
    model.train()
    model.zero_grad()
    model(IMAGE.double()).square().sum().backward()
    change = change_of_loss(layers, coupling)
    assert change is not None
    for group in range(coupling.groups):
        expected = 0.0
        for layer in readers(coupling):
            module: Any = model.get_submodule(layer.path)
            product = (module.weight * module.weight.grad).detach()
            for c in members(layer.inputs, group):
                if layer.out_axis == 1:
                    expected += float(product[c].sum())
                else:
                    inputs = layer.inputs.size // layer.groups
                    rows = layer.outputs.size // layer.groups
                    own = product[c // inputs * rows : (c // inputs + 1) * rows]
                    expected += float(own[:, c % inputs].sum())
        assert float(change[group]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_step_gathers_the_diagonal_of_the_fisher_information(model: SparseModel) -> None:
    """sum over readers of h * w^2 / 2 with h = (dL/dw)^2, weight by weight."""
    layers = layers_of(model)
    coupling = coupling_of(layers)
    model.train()
    model.zero_grad()
    model(IMAGE.double()).square().sum().backward()
    found = obd(layers, coupling)
    assert found is not None
    for group in range(coupling.groups):
        expected = 0.0
        for layer in readers(coupling):
            module: Any = model.get_submodule(layer.path)
            weights, module.weight.data = module.weight.data, module.weight.grad.square() * module.weight.data.square()
            expected += sum(sum(read_by(model, layer, c)) for c in members(layer.inputs, group)) / 2
            module.weight.data = weights
        assert float(found[group]) == pytest.approx(expected, rel=1e-9)


MAPS = torch.relu(torch.randn(7, 3, 4, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64))


def by_numbers(name: str, maps: Tensor) -> float:
    """A score of one channel's maps, (N, H, W), number by number."""
    numbers = maps.flatten().tolist()
    if name == "activation":
        return sum(map(abs, numbers)) / len(numbers)
    if name == "nonzeros":
        return sum(number != 0 for number in numbers) / len(numbers)
    if name == "rank":
        return sum(int(np.linalg.matrix_rank(one.numpy())) for one in maps) / len(maps)
    means = [float(one.mean()) for one in maps]
    counts, _ = np.histogram(means, bins=10)
    return -sum(count / len(means) * math.log(count / len(means)) for count in counts if count)


@pytest.mark.parametrize("name", OF_A_BATCH)
def test_a_score_of_maps_is_what_its_definition_says(name: str) -> None:
    maps = torch.cat([MAPS, torch.zeros(7, 1, 4, 5, dtype=torch.float64)], 1)
    expected = [by_numbers(name, maps[:, c]) for c in range(4)]
    np.testing.assert_allclose(OF_A_BATCH[name](maps).numpy(), expected, rtol=1e-12, atol=1e-15)


def test_names_of_scores_from_data_are_those_that_are_gathered() -> None:
    assert tuple(OF_A_BATCH) == OF_BATCHES and tuple(OF_A_STEP) == OF_STEPS


def test_what_layers_are_given_is_averaged_over_readers_and_batches() -> None:
    torch.manual_seed(3)
    net = randomise(Varied().double(), 3)
    sparse = sparsify(net, "channel", target={"macs": 0.9}, score="activation", example_inputs=IMAGE.double())
    with pytest.raises(RegimeError, match=r"it is made of what layers are given, and there have been none\. First"):
        sparse.finalize()
    data = [torch.randn(3, 3, 6, 6, dtype=torch.float64) for _ in range(2)]
    seen: dict[str, list[Tensor]] = {}
    for path in ("wide", "back", "grouped", "up", "fc"):
        hook: Any = lambda _, inputs, path=path: seen.setdefault(path, []).append(inputs[0].detach())  # noqa: E731
        sparse.get_submodule(path).register_forward_pre_hook(hook)
    sparse.gather(lambda model, batch: model(batch).sum(), data)
    layers = layers_of(sparse)
    coupling = coupling_of(layers)
    for group in range(coupling.groups):
        values = []
        for layer in readers(coupling):
            for inputs in seen.get(layer.path, []):
                values += [float(inputs[:, c].abs().mean()) for c in members(layer.inputs, group)]
        assert float(layers[0].memory["channel scores"][group]) == pytest.approx(sum(values) / len(values), rel=1e-9)
    assert sparse._life_cycle.state.clock.frozen is False and sparse.finalize().sparsity().true > 0


def test_chance_follows_the_seed() -> None:
    torch.manual_seed(5)
    net = randomise(Varied(), 3)
    model = sparsify(net, "channel", target={"macs": 0.9}, example_inputs=IMAGE)
    layers = layers_of(model)
    coupling = coupling_of(layers)
    evidence = evidence_of(layers, coupling, np.ones(coupling.groups, dtype=np.bool_))
    torch.manual_seed(1)
    first = SCORES["at_random"].of(evidence)
    torch.manual_seed(1)
    again = SCORES["at_random"].of(evidence)
    torch.manual_seed(2)
    other = SCORES["at_random"].of(evidence)
    assert (first == again).all() and (first != other).any() and first.min() >= 0


def test_means_of_sets_count_what_lives(model: SparseModel) -> None:
    coupling = coupling_of(layers_of(model))
    scores = np.arange(1.0, coupling.groups + 1)
    alive = np.arange(coupling.groups) % 3 > 0
    found = normalised(scores, coupling, alive)
    for one in coupling.sets:
        own = [scores[g] for g in range(one.start, one.stop) if alive[g]]
        for group in range(one.start, one.stop):
            assert found[group] == pytest.approx(scores[group] / (sum(own) / len(own)))
