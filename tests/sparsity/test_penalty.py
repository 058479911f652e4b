"""Penalties against loops over single weights, on a network with every kind of coupled layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import FILTER, KERNEL, WITHIN_LAYER, Cut, Regime, block, l1
from campfire_fx.sparsity.channels.layers import coupling_of
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.penalty import LASSO, LOG, RIDGE, VALUE, GradientPenalty, ProximalPenalty, Shape, worth
from campfire_fx.sparsity.slices import ChannelsOfLayers, CoupledGroups, Grouping, InLayers, NormScales
from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify
from tests.random_zeros import randomise
from tests.sparsity.test_channel_scores import IMAGE, Varied, members

Members = dict[Any, list[Tensor]]
VALUES: dict[str, Callable[[Tensor], Tensor]] = {
    "lasso": lambda n: n,
    "ridge": lambda n: n * n / 2,
    "log": lambda n: torch.log(1 + n / 0.001),
}
NORMS = {"bn.weight": "stem", "bn2.weight": "grouped"}  # each with a layer that writes its channels


def fresh() -> SparseModel:
    torch.manual_seed(3)
    return sparsify(randomise(Varied().double(), 3), "channel", target={"macs": 0.9}, example_inputs=IMAGE.double())


def layers_of(model: SparseModel) -> list[PrunedLayer]:
    cycle = model._life_cycle
    return [cycle.layer(model, name) for name in cycle.state.layers]


def kernels(model: SparseModel, path: str) -> Iterator[tuple[int, int, Tensor]]:
    """(filter, input channel, kernel) of a layer, both numbered over the whole of it."""
    module: Any = model.get_submodule(path)
    if isinstance(module, nn.ConvTranspose2d):
        yield from ((k, c, module.weight[c, k]) for c in range(len(module.weight)) for k in range(module.out_channels))
        return
    per_filter, groups = module.weight.shape[1], getattr(module, "groups", 1)
    for k, row in enumerate(module.weight):
        for c, kernel in enumerate(row):
            yield k, c + k // (len(module.weight) // groups) * per_filter, kernel


def of_layers(model: SparseModel, *, coupled: bool, inputs: bool, scales: bool = False) -> Members:
    """The weights of every group that can go: of each layer by itself, or of whole coupled groups."""
    coupling = coupling_of(layers_of(model))
    found: Members = {}
    for layer in coupling.layers:
        for k, c, kernel in kernels(model, layer.path):
            writes, reads = int(layer.outputs[k]), int(layer.inputs.reshape(-1)[c])
            if writes >= 0 and (coupled or layer.path != "deep"):
                found.setdefault(writes if coupled else (layer.path, "out", k), []).append(kernel)
            if inputs and reads >= 0 and layer.path != "deep":
                found.setdefault(reads if coupled else (layer.path, "in", c), []).append(kernel)
    for name, writer in NORMS.items() if scales else ():
        layer = next(layer for layer in coupling.layers if layer.path == writer)
        for group in range(coupling.groups):
            for k in members(layer.outputs, group):
                found.setdefault(group, []).append(model.get_parameter(name)[k])
    return found


def of_norms(model: SparseModel) -> Members:
    return {(name, c): [scale] for name in NORMS for c, scale in enumerate(model.get_parameter(name))}


def of_kernels(model: SparseModel) -> Members:
    paths = [layer.path for layer in coupling_of(layers_of(model)).layers]
    return {(path, k, c): [kernel] for path in paths for k, c, kernel in kernels(model, path)}


GROUPINGS: dict[str, tuple[Grouping, Callable[[SparseModel], Members]]] = {
    "channels of layers": (ChannelsOfLayers(), lambda model: of_layers(model, coupled=False, inputs=True)),
    "coupled filters": (CoupledGroups(), lambda model: of_layers(model, coupled=True, inputs=False)),
    "coupled groups": (
        CoupledGroups(inputs=True, scales=True),
        lambda model: of_layers(model, coupled=True, inputs=True, scales=True),
    ),
    "norm scales": (NormScales(), of_norms),
    "kernels": (InLayers(KERNEL), of_kernels),
}


def by_loops(found: Members, value: Callable[[Tensor], Tensor]) -> Tensor:
    """Sum over groups of f(||w_g||), one group after the other."""
    total = torch.zeros((), dtype=torch.float64)
    for group in found.values():
        square = sum((weight.square().sum() for weight in group), start=torch.zeros((), dtype=torch.float64))
        total = total + value(square.sqrt())
    return total


@pytest.mark.parametrize("shape", [LASSO, RIDGE, LOG], ids=lambda shape: shape.name)
@pytest.mark.parametrize("name", GROUPINGS)
def test_value_and_gradient_are_those_of_the_sum_over_groups(name: str, shape: Shape) -> None:
    model = fresh()
    over, of = GROUPINGS[name]
    expected = 0.3 * by_loops(of(model), VALUES[shape.name])
    expected.backward()
    wanted = {path: parameter.grad for path, parameter in model.named_parameters()}
    layers = layers_of(model)
    assert 0.3 * worth(list(over.slices(layers)), shape) == pytest.approx(float(expected.detach()), rel=1e-12)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    penalty = GradientPenalty(0.3, over, shape)
    penalty.begin(layers, layers[0].clock)
    penalty.epoch(layers, layers[0].clock)
    penalty.before_step(layers, layers[0].clock)
    assert float(layers[0].memory[VALUE]) == pytest.approx(float(expected.detach()), rel=1e-12)
    for path, parameter in model.named_parameters():
        gradient = wanted[path]
        found = torch.zeros_like(parameter) if gradient is None else gradient
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad - 1, found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [LASSO, RIDGE], ids=lambda shape: shape.name)
@pytest.mark.parametrize("name", ["coupled groups", "norm scales", "kernels"])
def test_the_proximal_step_is_the_minimum_that_defines_it(name: str, shape: Shape) -> None:
    """argmin over v of ||v - w||^2 / 2 + t * sum over groups of f(||v_g||): its gradient is 0, or 0 is best."""
    model = fresh()
    over, of = GROUPINGS[name]
    before = {key: [w.detach().clone() for w in group] for key, group in of(model).items()}
    optimizer = SGD(model.parameters(), 0.5)
    layers = layers_of(model)
    for layer in layers:
        layer.optimizers = [optimizer]
    with torch.no_grad():
        ProximalPenalty(2.0, over, shape).after_step(layers, layers[0].clock)
    zeros = 0
    for key, group in of(model).items():
        old = math.sqrt(sum(float(w.square().sum()) for w in before[key]))
        new = math.sqrt(sum(float(w.detach().square().sum()) for w in group))
        overlapping = name == "coupled groups"  # kernels that one group writes and another reads shrink by both
        best = max(0.0, old - 1.0) if shape is LASSO else old / 2
        assert new <= best + 1e-9 if overlapping else new == pytest.approx(best, abs=1e-9)
        zeros += new == 0
    assert (zeros > 0) == (shape is LASSO)


def test_a_fused_scale_multiplies_it_and_parameters_of_others_are_left_alone() -> None:
    model = fresh()
    layers = layers_of(model)
    mine = frozenset(map(id, model.get_submodule("bn").parameters()))
    for layer in layers:
        layer.scale, layer.stepped = torch.tensor(8.0), mine
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    GradientPenalty(0.25, NormScales()).before_step(layers, layers[0].clock)
    torch.testing.assert_close(model.bn.weight.grad, 2 * model.bn.weight.detach().sign())
    assert not any(p.grad.any() for name, p in model.named_parameters() if name != "bn.weight" and p.grad is not None)


def test_it_goes_beside_any_method_and_shows_in_the_record() -> None:
    """Kernels that die by L1, drawn to zero, single layers left out."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 5))
    cut = Cut(KERNEL, l1, WITHIN_LAYER)
    regime = Regime("drawn", cut, cut, None, penalty=GradientPenalty(0.01, InLayers(KERNEL)))
    model = sparsify(net, regime, era=(1, 3), example_inputs=torch.zeros(2, 3, 6, 6), overrides={"0": 0.7, "2": 0})
    assert model.sparsity().penalty is None
    optimizer = SGD(model.parameters(), 0.1)
    model.attach(optimizer, steps_per_epoch=1)
    seen = []
    for _ in range(4):
        seen.append(model.sparsity().penalty)
        model(torch.ones(2, 3, 6, 6)).sum().mul(0).backward()
        before = model.get_parameter("2.weight").clone()
        optimizer.step()
        assert torch.equal(before, model.get_parameter("2.weight"))
        optimizer.zero_grad()
    assert seen[3] is None and model.sparsity().true == pytest.approx(0.7, abs=0.03)
    assert seen[0] is not None and seen[1] is not None and seen[2] is not None and seen[0] > seen[1] > seen[2] > 0


def test_what_makes_no_sense_is_refused() -> None:
    for strength in (0, -1.0, True, float("nan"), "1"):
        with pytest.raises(RegimeError, match=r"strength: .* is not above 0\. Give a positive number\."):
            GradientPenalty(strength, InLayers(FILTER))  # type: ignore[arg-type]
    with pytest.raises(RegimeError, match=r"penalty: 'log' has no proximal step\. Take GradientPenalty\."):
        ProximalPenalty(1.0, InLayers(FILTER), LOG)
    with pytest.raises(RegimeError, match="its penalty is on coupled channels, and its masks are not"):
        Regime("mixed", None, None, Cut(block(5), l1, WITHIN_LAYER), penalty=GradientPenalty(1.0, NormScales()))
    model = fresh()
    layers = layers_of(model)
    with pytest.raises(RegimeError, match=r"needs the optimizer's learning rate, and none is attached"):
        ProximalPenalty(1.0, NormScales()).after_step(layers, layers[0].clock)
