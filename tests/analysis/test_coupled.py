"""Coupled channels: which layers write and read each set, what one channel costs, what stays and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx.analysis.coupled import find_coupling
from campfire_fx.cost.measure import macs
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.sparsity.channels.costs import set_costs
from campfire_fx.sparsity.channels.coupling import CoupledSet
from campfire_fx.training.couple import coupled_channels
from campfire_fx.training.masked_copy import masked_copy
from tests.assertions import Snapshot, assert_untouched, parameters
from tests.random_zeros import randomise

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """A residual block, whose stream two layers write."""

    def __init__(self, stream: int = 6, inner: int = 8) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, stream, 3), nn.BatchNorm2d(stream)
        self.a, self.b = nn.Conv2d(stream, inner, 3, padding=1), nn.Conv2d(inner, stream, 1, bias=False)
        self.bn2, self.fc = nn.BatchNorm2d(stream), nn.Linear(stream, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)))
        return self.fc((x + self.bn2(self.b(F.relu(self.a(x))))).mean((2, 3)))


class Chain(nn.Module):
    """Layers in a row, a classifying convolution last."""

    def __init__(self, first: int, *others: nn.Module, last: int) -> None:
        super().__init__()
        self.first, self.others, self.last = nn.Conv2d(3, first, 1), nn.Sequential(*others), nn.Conv2d(last, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.others(F.relu(self.first(x))))


def depthwise(width: int = 6) -> nn.Module:
    return Chain(width, nn.Conv2d(width, width, 3, groups=width), nn.BatchNorm2d(width), last=width)


def multiplied(width: int = 4) -> nn.Module:
    """A depthwise convolution that makes two channels of each."""
    return Chain(width, nn.Conv2d(width, 2 * width, 3, groups=width), last=2 * width)


def whole_groups(groups: int = 6) -> nn.Module:
    """More groups than channels in a group: whole groups leave more choice."""
    return Chain(2 * groups, nn.Conv2d(2 * groups, 2 * groups, 3, groups=groups), last=2 * groups)


def every_group(inputs: int = 4, outputs: int = 5) -> nn.Module:
    """Few groups with many channels: every group loses as many."""
    return Chain(2 * inputs, nn.Conv2d(2 * inputs, 2 * outputs, 3, groups=2), last=2 * outputs)


def normalised_by_group(groups: int = 6) -> nn.Module:
    """Pairs of channels that GroupNorm normalises together, with a scale and a shift for each channel."""
    return Chain(2 * groups, nn.GroupNorm(groups, 2 * groups), last=2 * groups)


def transposed(width: int = 5, up: int = 6) -> nn.Module:
    return Chain(width, nn.ConvTranspose2d(width, up, 2, stride=2), nn.ReLU(), last=up)


def flattened(width: int = 4, inner: int = 7) -> nn.Module:
    """Every channel is read at 16 places."""
    convolved = nn.Conv2d(3, width, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*convolved, nn.Linear(16 * width, inner), nn.ReLU(), nn.Linear(inner, 5))


def one_dimension(width: int = 5) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, width), nn.ReLU(), nn.Linear(width, 3))


class Concatenated(nn.Module):
    """Two layers, one tensor of both."""

    def __init__(self, left: int = 4, right: int = 6) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, left, 3), nn.Conv2d(3, right, 3), nn.Conv2d(left + right, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(torch.cat([self.a(x), self.b(x)], 1)))


class Halves(nn.Module):
    """The halves of a tensor go two ways."""

    def __init__(self, left: int = 4, right: int = 6) -> None:
        super().__init__()
        self.left, self.a = left, nn.Conv2d(3, left + right, 3)
        self.b, self.c = nn.Conv2d(left, 5, 1), nn.Conv2d(right, 5, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.a(x).split([self.left, self.a.out_channels - self.left], 1)
        return self.b(first), self.c(second)


class Folded(nn.Module):
    """The halves of a tensor are added: channels i and i + width are one."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 2 * width, 3), nn.Conv2d(width, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.a(x).chunk(2, 1)
        return self.b(first + second)


class Shuffled(nn.Module):
    """Channels change places before a layer that reads all of them."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, width, 3), nn.Conv2d(width, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.channel_shuffle(self.a(x), 2))


class LayerScale(nn.Module):
    """A branch with a scale for each channel."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.stem, self.a, self.last = nn.Conv2d(3, width, 3), nn.Conv2d(width, width, 1), nn.Conv2d(width, 4, 1)
        self.gamma = nn.Parameter(torch.full((width, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(x + self.gamma * self.a(x))


class Excited(nn.Module):
    """Squeeze and excitation: a gate that is written channel by channel."""

    def __init__(self, width: int = 6, inner: int = 3) -> None:
        super().__init__()
        self.a, self.last = nn.Conv2d(3, width, 3), nn.Conv2d(width, 4, 1)
        self.squeeze, self.excite = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        gate = self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True))))
        return self.last(x * gate.sigmoid())


class Twice(nn.Module):
    """One layer called twice: what it writes it reads."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Conv2d(3, width, 3), nn.Conv2d(width, width, 1), nn.Conv2d(width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.b(F.relu(self.b(self.a(x))))))


@dataclass(frozen=True, slots=True)
class Known:
    """A network and what is known of it.

    Attributes:
        build: makes it from widths.
        widths: what it is given.
        sets: of each set (channels, writers, readers, norms); the k-th belongs to the k-th width.
        step: widths are multiples of it.
    """

    build: Callable[..., nn.Module]
    widths: tuple[int, ...]
    sets: tuple[tuple[int, str, str, str], ...]
    step: int = 1


CASES = {
    "residual": Known(Residual, (6, 8), ((1, "stem b", "a fc", "bn bn2"), (1, "a", "b", ""))),
    "depthwise": Known(depthwise, (6,), ((1, "first others.0", "others.0 last", "others.1"),)),
    "multiplied": Known(multiplied, (4,), ((1, "first others.0", "others.0 last", ""),)),
    "whole groups": Known(whole_groups, (6,), ((2, "first others.0", "others.0 last", ""),)),
    "every group": Known(every_group, (4, 5), ((2, "first", "others.0", ""), (2, "others.0", "last", ""))),
    "normalised by group": Known(normalised_by_group, (6,), ((2, "first", "last", "others.0"),)),
    "transposed": Known(transposed, (5, 6), ((1, "first", "others.0", ""), (1, "others.0", "last", ""))),
    "flattened": Known(flattened, (4, 7), ((1, "0", "3", ""), (1, "3", "5", ""))),
    "one dimension": Known(one_dimension, (5,), ((1, "1", "3", ""),)),
    "concatenated": Known(Concatenated, (4, 6), ((1, "a", "c", ""), (1, "b", "c", ""))),
    "halves": Known(Halves, (4, 6), ((1, "a", "b", ""), (1, "a", "c", ""))),
    "folded": Known(Folded, (4,), ((2, "a", "b", ""),)),
    "shuffled": Known(Shuffled, (8,), ((1, "a", "b", ""),), step=2),
    "layer scale": Known(LayerScale, (6,), ((1, "stem a", "a last", ""),)),
    "excited": Known(Excited, (6, 3), ((1, "a excite", "squeeze last", ""), (1, "squeeze", "excite", ""))),
    "called twice": Known(Twice, (6,), ((1, "a b", "b last", ""),)),
}


def net_of(known: Known, widths: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    return randomise(known.build(*widths)).eval()


@pytest.fixture(params=CASES)
def known(request: pytest.FixtureRequest) -> Known:
    return CASES[request.param]


def told(one: CoupledSet) -> tuple[int, str, str, str]:
    return one.channels, " ".join(one.writers), " ".join(one.readers), " ".join(one.norms)


class TestSets:
    def test_who_writes_and_reads_them(self, known: Known) -> None:
        coupling = coupled_channels(net_of(known, known.widths), X)
        assert sorted(map(told, coupling.sets)) == sorted(known.sets)
        sizes = {one.size for one in coupling.sets}
        assert sizes == set(known.widths)

    def test_every_filter_and_every_reader_is_in_its_place(self, known: Known) -> None:
        coupling = coupled_channels(net_of(known, known.widths), X)
        for one in coupling.sets:
            for layer in coupling.layers:
                writes, reads = (_touched(ports, one.start, one.stop) for ports in (layer.outputs, layer.inputs))
                assert writes == (one.size if layer.path in one.writers else 0)
                assert reads == (one.size if layer.path in one.readers else 0)

    def test_a_channel_costs_what_a_narrower_network_has_less(self, known: Known) -> None:
        net = net_of(known, known.widths)
        coupling = coupled_channels(net, X)
        for one, cost in zip(coupling.sets, set_costs(coupling), strict=True):
            place = known.sets.index(told(one))
            narrow = net_of(known, tuple(w - known.step * (i == place) for i, w in enumerate(known.widths)))
            assert known.step * cost.macs == macs(net, (X,)).total - macs(narrow, (X,)).total
            assert known.step * cost.parameters == parameters(net) - parameters(narrow)

    def test_layers_hold_all_that_is_multiplied(self, known: Known) -> None:
        net = net_of(known, known.widths)
        coupling = coupled_channels(net, X)
        counted = sum(layer.macs * layer.outputs.size * layer.inputs.shape[1] for layer in coupling.layers)
        assert counted == macs(net, (X,)).total
        assert coupling.other_macs == 0
        assert coupling.dense == {
            "macs": macs(net, (X,)).total,
            "parameters": parameters(net),
            "channels": sum(known.widths),
        }

    def test_the_model_is_as_it_was_to_the_bit(self, known: Known) -> None:
        net = net_of(known, known.widths)
        before = Snapshot.of(net)
        captured, _ = masked_copy("a test", net, X, None)
        held = {name: tensor.clone() for name, tensor in captured.module.state_dict().items()}
        modules = captured.module.named_modules()
        find_coupling(
            captured, {id(module.weight): path for path, module in modules if isinstance(module, MaskedLayer)}
        )
        assert_untouched(net, before)
        after = captured.module.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in held.items())
        assert all(
            bool(after[name].signbit().eq(t.signbit()).all()) for name, t in held.items() if t.is_floating_point()
        )


def _touched(groups: Any, start: int, stop: int) -> int:
    return len({group for group in groups.reshape(-1).tolist() if start <= group < stop})


class Normalised(nn.Module):
    """A stream that LayerNorm reads."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.c = nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, 10), nn.Linear(10, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.head(x + self.c(F.relu(self.b(self.norm(x)))))


class Read(nn.Module):
    """Something other than a layer reads what `a` writes."""

    def __init__(self, read: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 7, 1), nn.Conv2d(7, 4, 1)
        self.weight, self.read = nn.Parameter(torch.randn(5, 6)), read

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.a(x))
        return self.c(self.b(x)), self.read(self, x)


READERS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "a weight that is computed": lambda net, x: F.conv2d(x, torch.tanh(net.weight)[..., None, None]),
    "the output": lambda net, x: x,
    "an order": lambda net, x: x.sort(1).values,
    "a product of activations": lambda net, x: torch.einsum("nchw,ndhw->ncd", x, x),
}


class TestStays:
    def test_a_stream_that_is_normalised_over_channels(self) -> None:
        coupling = coupled_channels(Normalised(), torch.randn(2, 4, 8))
        assert [one.writers for one in coupling.sets] == [("b",)]
        assert any("normalises across channels" in one.reason and one.channels == 6 for one in coupling.stays)

    @pytest.mark.parametrize("reader", READERS)
    def test_what_something_else_reads(self, reader: str) -> None:
        coupling = coupled_channels(Read(READERS[reader]), X)
        assert [(one.writers, one.readers, one.size) for one in coupling.sets] == [(("b",), ("c",), 7)]
        assert sum(one.channels for one in coupling.stays) >= 6
        assert all(one.reason and one.where for one in coupling.stays)

    def test_a_weight_that_a_function_reads_can_go(self) -> None:
        coupling = coupled_channels(Read(lambda net, x: F.conv2d(x, net.weight[..., None, None])), X)
        assert {one.name for one in coupling.sets} >= {"b"}

    def test_nothing_can_go(self) -> None:
        coupling = coupled_channels(nn.Sequential(nn.Conv2d(3, 4, 1)), X)
        assert coupling.sets == () and set_costs(coupling) == ()
        assert [(one.channels, one.reason) for one in coupling.stays] == [(4, "the model's output")]


def test_channels_that_an_operation_combines_stay_for_that_reason() -> None:
    class Efficient(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.gate, self.b = nn.Conv2d(3, 8, 1), nn.Conv1d(1, 1, 3, padding=1), nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.b(x * self.gate(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1).sigmoid())

    stays = [(one.where, one.channels, one.reason) for one in coupled_channels(Efficient(), X).stays]
    assert stays == [("output", 4, "the model's output"), ("a", 8, "an operation combines all of them")]


def test_channels_that_a_norm_joins_over_two_layers_stay_for_that_reason() -> None:
    """Of six groups of four channels the third reaches into both layers: it is alone, and one of each kind stays."""

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 10, 1), nn.Conv2d(3, 14, 1), nn.Conv2d(24, 4, 1)
            self.norm = nn.GroupNorm(6, 24)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.norm(torch.cat([self.a(x), self.b(x)], 1)))

    coupling = coupled_channels(Joined(), X)
    assert sorted((one.size, one.channels, one.writers) for one in coupling.sets) == [
        (1, 2, ("a", "b")), (2, 4, ("a",)), (3, 4, ("b",)),
    ]  # fmt: skip
    stays = {(one.where, one.channels, one.reason) for one in coupling.stays}
    assert stays == {("output", 4, "the model's output"), ("a", 2, "an operation combines all of them")}
