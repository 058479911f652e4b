"""The dependency graph: who makes channels, who reads them, who must share them."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from torch import Tensor, nn

from campfire_fx import dependency_graph
from campfire_fx.base.errors import CampfireError
from campfire_fx.training.couple import coupled_channels
from tests.nets.case import block, conv

X = torch.randn(1, 3, 8, 8)


class Residual(nn.Module):
    """A stem, a block with a residual sum, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 8)
        self.inner = block(8, 6)
        self.outer = conv(6, 8)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.norm(self.outer(self.inner(x))))
        return self.fc(x.mean((2, 3)))


class Joined(nn.Module):
    """A concatenation, a depthwise convolution, and something that nobody understands."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 4), conv(3, 6)
        self.depthwise = conv(10, 10, groups=10)
        self.last = conv(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(torch.cat([self.a(x), self.b(x)], 1))
        return self.last(torch.fft.fft2(x).real)


def edges(graph: nx.DiGraph) -> dict[tuple[str, str], tuple[str, int]]:
    return {(a, b): (facts["kind"], facts["channels"]) for a, b, facts in graph.edges(data=True)}


def test_a_residual_network() -> None:
    graph = dependency_graph(Residual().eval(), X)
    assert edges(graph) == {
        ("input", "stem.0"): ("reads", 3),
        ("stem.0", "inner.0"): ("reads", 8),
        ("inner.0", "outer"): ("reads", 6),
        ("stem.0", "add"): ("coupled", 8),
        ("outer", "add"): ("coupled", 8),
        ("add", "fc"): ("reads", 8),
        ("fc", "output"): ("coupled", 5),
    }
    assert graph.nodes["inner.0"] == {
        "kind": "conv", "operation": "Conv2d", "channels_in": 8, "channels_out": 6, "pinned": None, "sets": (),
    }  # fmt: skip
    assert graph.nodes["fc"]["kind"] == "linear" and graph.nodes["add"]["kind"] == "add"
    assert graph.edges["outer", "add"]["via"] == ("BatchNorm2d",)
    assert graph.edges["stem.0", "inner.0"]["via"] == ("BatchNorm2d", "ReLU")
    assert graph.edges["add", "fc"]["via"] == ("relu", "mean")
    assert nx.is_directed_acyclic_graph(graph)


def test_what_is_pinned_says_why() -> None:
    graph = dependency_graph(Residual().eval(), X)
    pinned = {name: reason for name, reason in graph.nodes(data="pinned") if reason}
    assert set(pinned) == {"input", "output", "fc"}
    assert "output" in pinned["output"]


def test_concatenations_depthwise_layers_and_barriers() -> None:
    graph = dependency_graph(Joined().eval(), X)
    found = edges(graph)
    assert found["a", "cat"] == ("coupled", 4) and found["b", "cat"] == ("coupled", 6)
    assert found["cat", "depthwise"] == ("coupled", 10)
    assert graph.nodes["cat"]["kind"] == "concat" and graph.nodes["cat"]["channels_out"] == 10
    barrier = next(name for name, kind in graph.nodes(data="kind") if kind == "barrier")
    assert graph.nodes[barrier]["pinned"].endswith("has no channel rule")
    assert found["depthwise", barrier] == ("reads", 10)
    assert graph.nodes["a"]["pinned"] and graph.nodes["depthwise"]["pinned"]


def test_a_layer_called_twice_is_one_node() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again = conv(3, 4), conv(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.again(torch.relu(self.again(self.first(x))))

    graph = dependency_graph(Twice().eval(), X)
    assert set(graph) == {"input", "first", "again", "output"}
    assert edges(graph)["first", "again"] == ("reads", 4)


def test_inputs_that_do_not_fit_are_refused_in_a_sentence() -> None:
    with pytest.raises(CampfireError):
        dependency_graph(Residual().eval(), torch.randn(1, 4, 8, 8))


def test_halves_of_a_tensor_belong_to_sets_of_their_own() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 10, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(6, 5, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            first, second = self.a(x).split([4, 6], 1)
            return (first + self.b(first)).sum(1), self.c(second)

    model, example = Halves(), torch.randn(2, 3, 8, 8)
    graph = dependency_graph(model, example, coupling=coupled_channels(model, example))
    assert graph.nodes["a"]["sets"] == ("a",)  # the other half is summed: nothing of it can go
    assert graph.nodes["c"]["sets"] == ()
