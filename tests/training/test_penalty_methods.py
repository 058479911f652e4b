"""Methods with a penalty, each against a training that is written out from its paper: the same weights and masks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from campfire_fx.training.model import SparseModel
from tests.sparse_training import Net, batches, layer, sparse, train

RATE = 0.05
DATA = [(x.double(), y) for x, y in batches(10)]
WRITERS = {"stream": ("stem", "conv2"), "inner": ("conv1",), "last": ("point",)}  # of the coupled sets of Net
READERS = {"stream": ("conv1", "point"), "inner": ("conv2",), "last": ("fc",)}
NORMS = {"stream": "bn2", "inner": "bn1"}
Penalty = Callable[[Net], Tensor]


def dense(model: SparseModel) -> Net:
    """The network that a sparse model was made of, with its weights."""
    net = Net().double()
    net.load_state_dict({name: value for name, value in model.state_dict().items() if name in net.state_dict()})
    return net


def started(regime: str, **wishes: object) -> tuple[SparseModel, Net]:
    model = sparse(regime, **wishes).double()
    return model, dense(model).train()


def trained(model: SparseModel, steps: int) -> SGD:
    optimizer = SGD(model.parameters(), RATE)
    model.attach(optimizer, steps_per_epoch=2)
    for _ in train(model, optimizer, DATA[:steps]):
        pass
    return optimizer


def step(net: Net, data: tuple[Tensor, Tensor], penalty: Penalty) -> None:
    """One step of plain gradient descent on the loss and the penalty."""
    net.zero_grad()
    (F.cross_entropy(net(data[0]), data[1]) + penalty(net)).backward()
    with torch.no_grad():
        for parameter in net.parameters():
            assert parameter.grad is not None
            parameter -= RATE * parameter.grad


def zero(net: Net, name: str, channels: list[int]) -> None:
    """Take channels out: filters, norms, biases, and what reads them."""
    with torch.no_grad():
        for path in WRITERS[name]:
            module: nn.Conv2d = getattr(net, path)
            module.weight[channels] = 0
            if module.bias is not None:
                module.bias[channels] = 0
        for path in READERS[name]:
            getattr(net, path).weight[:, channels] = 0
        if name in NORMS:
            norm: nn.BatchNorm2d = getattr(net, NORMS[name])
            for tensor in (norm.weight, norm.bias, norm.running_mean):
                assert tensor is not None
                tensor[channels] = 0


def scales(net: Net, name: str) -> list[float]:
    return [abs(float(scale)) for scale in getattr(net, NORMS[name]).weight.detach()]


def group_lasso(net: Net) -> Tensor:
    """Filters and input channels that can go: not the images', not the classes'."""
    filters = [w for paths in WRITERS.values() for path in paths for w in getattr(net, path).weight]
    inputs = [w for paths in READERS.values() for path in paths for w in getattr(net, path).weight.transpose(0, 1)]
    return sum((w.norm() for w in (*filters, *inputs)), start=torch.zeros((), dtype=torch.float64))


def assert_equal(model: SparseModel, net: Net) -> None:
    """The same weights, and the same zeros to the bit."""
    for name, parameter in net.named_parameters():
        found = model.get_parameter(name)
        torch.testing.assert_close(found, parameter, rtol=1e-9, atol=1e-11)
        assert torch.equal(found == 0, parameter == 0), name


def test_network_slimming() -> None:
    """L1 on scales, once at the end the share of channels of smallest scale in the network; then training goes on."""
    model, net = started("network-slimming", strength=0.4, sparsity=0.4, era=(3, 3))
    trained(model, 6)
    for data in DATA[:6]:
        step(net, data, lambda net: 0.4 * (net.bn1.weight.abs().sum() + net.bn2.weight.abs().sum()))
    order = sorted((scale, name, c) for name in NORMS for c, scale in enumerate(scales(net, name)))
    dead: dict[str, list[int]] = {name: [] for name in NORMS}
    for _, name, c in order:
        left = round(0.4 * 6) + round(0.4 * 8) + round(0.4 * 12) - sum(map(len, dead.values()))  # `point` has no norm
        if left and len(dead[name]) < len(scales(net, name)) - 1:
            dead[name].append(c)
    for name, channels in dead.items():
        zero(net, name, channels)
    assert_equal(model, net)
    assert model.sparsity().penalty is None and 0 < int((~layer(model, "conv1").mask.flatten(1).any(1)).sum()) < 8


def test_structured_sparsity_learning_and_its_value() -> None:
    """Group lasso until the era ends; the filters of smallest norms go, summed over those who write a channel."""
    model, net = started("ssl", strength=0.02, sparsity=0.5, era=(3, 3))
    noted = []
    optimizer = SGD(model.parameters(), RATE)
    model.attach(optimizer, steps_per_epoch=2)
    for index, _ in enumerate(train(model, optimizer, DATA[:6])):
        if index in (1, 3):
            noted.append(model.sparsity().penalty)
    values = []
    for index, data in enumerate(DATA[:6]):
        step(net, data, lambda net: 0.02 * group_lasso(net))
        if index in (1, 3):
            values.append(0.02 * float(group_lasso(net).detach()))
    assert noted == pytest.approx(values, rel=1e-9)
    dead = {}
    for name, paths in WRITERS.items():
        norms = sum(getattr(net, path).weight.detach().flatten(1).norm(dim=1) for path in paths)
        assert isinstance(norms, Tensor)
        dead[name] = norms.argsort()[: len(norms) // 2].tolist()
    for name, channels in dead.items():
        zero(net, name, channels)
    assert_equal(model, net)


def test_prune_train() -> None:
    """A penalty of so much at first; after each epoch what has no weight above the threshold goes, one always stays."""
    model, net = started("prune-train", strength=4.0, threshold=0.12, era=(0, 5))
    strength = 4.0 / float(group_lasso(net).detach())
    trained(model, 8)
    gone: dict[str, set[int]] = {name: set() for name in WRITERS}
    for index, data in enumerate(DATA[:8]):
        step(net, data, lambda net: strength * group_lasso(net))
        if index % 2 == 0:
            for name, channels in gone.items():
                zero(net, name, sorted(channels))  # what a step gave back
            continue
        for name, dead in gone.items():
            written = [getattr(net, path).weight.detach().abs().flatten(1).amax(1) for path in WRITERS[name]]
            reads = [getattr(net, path).weight.detach().abs().transpose(0, 1) for path in READERS[name]]
            largest = torch.stack([*written, *(read.flatten(1).amax(1) for read in reads)]).amax(0).tolist()
            order = sorted(set(range(len(largest))) - dead, key=lambda c: (largest[c], c))
            dead |= {c for c in order[:-1] if largest[c] <= 0.12}
        for name, dead in gone.items():
            zero(net, name, sorted(dead))
    assert any(gone.values())
    assert_equal(model, net)


def test_growing_regularisation() -> None:
    """Chosen by L1 as the era begins, drawn by an L2 penalty that grows every five steps, cut as the era ends."""
    model, net = started("greg", strength=0.5, sparsity=0.5, era=(1, 5))
    trained(model, 10)
    chosen: dict[str, list[int]] = {}
    for index, data in enumerate(DATA):
        if index == 2:
            for name, paths in WRITERS.items():
                sums = sum(getattr(net, path).weight.detach().abs().flatten(1).sum(1) for path in paths)
                assert isinstance(sums, Tensor)
                chosen[name] = sums.argsort()[: len(sums) // 2].tolist()
        factor = min(1.0, 0.5 * ((index - 2) // 5)) if chosen else 0.0

        def drawn(net: Net, factor: float = factor) -> Tensor:
            groups = [(path, c) for name in chosen for path in WRITERS[name] for c in chosen[name]]
            squares = (getattr(net, path).weight[c].square().sum() for path, c in groups)
            return factor / 2 * sum(squares, start=torch.zeros((), dtype=torch.float64))

        step(net, data, drawn)
    assert factor == 0.5
    for name, channels in chosen.items():
        zero(net, name, channels)
    assert_equal(model, net)


def test_growing_regularisation_that_chooses_while_all_are_drawn() -> None:
    """Lambda is the same for all up to 0.01; then the smallest by L1 are drawn more and the others less than not."""
    model, net = started("greg-2", strength=0.05, sparsity=0.5, era=(0, 8))
    series = [*DATA, *DATA[:6]]
    optimizer = SGD(model.parameters(), RATE)
    model.attach(optimizer, steps_per_epoch=2)
    for _ in train(model, optimizer, series):
        pass
    every = [(name, c) for name, paths in WRITERS.items() for c in range(len(getattr(net, paths[0]).weight))]
    chosen: dict[str, list[int]] = {}
    for index, data in enumerate(series):
        if index == 10:  # twice 0.05 / 10 is 0.01
            for name, paths in WRITERS.items():
                sums = sum(getattr(net, path).weight.detach().abs().flatten(1).sum(1) for path in paths)
                assert isinstance(sums, Tensor)
                chosen[name] = sums.argsort()[: len(sums) // 2].tolist()
        gone, left = (0.01 + 0.05 * ((index - 10) // 5), -1e-4) if chosen else (0.0, 0.005 * (index // 5))
        strengths = {(name, c): gone if c in chosen.get(name, ()) else left for name, c in every}

        def drawn(net: Net, strengths: dict[tuple[str, int], float] = strengths) -> Tensor:
            terms = [
                factor / 2 * getattr(net, path).weight[c].square().sum()
                for (name, c), factor in strengths.items()
                for path in WRITERS[name]
            ]
            return sum(terms, start=torch.zeros((), dtype=torch.float64))

        step(net, data, drawn)
    assert chosen and gone == pytest.approx(0.06)
    for name, channels in chosen.items():
        zero(net, name, channels)
    assert_equal(model, net)


def test_sparse_structure_selection() -> None:
    """Scales soft-thresholded after each step; channels whose scale is zero go as an epoch begins."""
    model, net = started("sparse-structure", strength=3.7, era=(0, 5))
    trained(model, 7)
    gone: dict[str, set[int]] = {name: set() for name in NORMS}
    for index, data in enumerate(DATA[:7]):
        step(net, data, lambda _: torch.zeros((), dtype=torch.float64))
        with torch.no_grad():
            for norm in (net.bn1, net.bn2):
                norm.weight.copy_(norm.weight.sign() * (norm.weight.abs() - RATE * 3.7).clamp(min=0))
        for name, dead in gone.items():
            if index % 2:
                alive = [c for c, _ in enumerate(scales(net, name)) if c not in dead]
                dead |= set([c for c in alive if scales(net, name)[c] == 0][: len(alive) - 1])
            zero(net, name, sorted(dead))
    assert all(gone.values()) and model.sparsity().true > 0.3
    assert_equal(model, net)


def test_soft_filters_are_zeroed_in_every_epoch_and_go_at_the_end() -> None:
    model, net = started("sfp", sparsity=0.5, era=(1, 4))
    trained(model, 8)

    def smallest() -> dict[str, list[int]]:
        norms = {n: sum(getattr(net, p).weight.detach().flatten(1).norm(dim=1) for p in WRITERS[n]) for n in WRITERS}
        return {name: norm.argsort()[: len(norm) // 2].tolist() for name, norm in norms.items()}  # type: ignore[union-attr]

    for index, data in enumerate(DATA[:8]):
        if index in (2, 4, 6):
            with torch.no_grad():
                for name, channels in smallest().items():
                    for path in WRITERS[name]:
                        getattr(net, path).weight[channels] = 0
        step(net, data, lambda _: torch.zeros((), dtype=torch.float64))
    for name, channels in smallest().items():
        zero(net, name, channels)
    assert_equal(model, net)


def test_of_two_optimizers_each_adds_the_penalty_to_its_own() -> None:
    model, net = started("ssl", strength=0.02, era=(3, 3))
    norms = [parameter for name, parameter in model.named_parameters() if name.startswith(("bn", "conv1"))]
    others = [parameter for parameter in model.parameters() if all(parameter is not norm for norm in norms)]
    first, second = SGD(norms, RATE), SGD(others, RATE)
    model.attach(first, steps_per_epoch=2)
    model.attach(second)
    for data in DATA[:4]:
        model.zero_grad()
        F.cross_entropy(model.train()(data[0]), data[1]).backward()
        first.step()
        second.step()
    for data in DATA[:4]:
        step(net, data, lambda net: 0.02 * group_lasso(net))
    with pytest.raises(AssertionError):  # of the second optimizer the penalty sees weights that have moved
        torch.testing.assert_close(model.get_parameter("conv2.weight"), net.conv2.weight * 2)
    torch.testing.assert_close(model.get_parameter("conv2.weight"), net.conv2.weight, rtol=1e-9, atol=1e-11)


def test_what_a_method_draws_to_zero_is_cut_out_in_mid_training() -> None:
    """PruneTrain's reconfiguration: the smaller model goes on with the same strength, and ends as small."""
    model, _ = started("prune-train", strength=4.0, threshold=0.12, era=(0, 5))
    optimizer = trained(model, 6)
    smaller = model.reconfigure(optimizer)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    memory = smaller._life_cycle.state.memory["penalty strength"]
    assert torch.equal(memory, model._life_cycle.state.memory["penalty strength"])
    for _ in train(smaller, optimizer, DATA[6:8]):
        pass
    whole, _ = started("prune-train", strength=4.0, threshold=0.12, era=(0, 5))
    trained(whole, 8)
    assert [cost.now for cost in smaller.sparsity().costs] == [cost.now for cost in whole.sparsity().costs]
