"""The channels that die are those that the definition names, by brute force: every saving counted on a narrower net."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx.base.errors import RegimeError
from campfire_fx.cost.measure import macs, parameters
from campfire_fx.sparsity.channels.choice import Limit, choose, floors
from campfire_fx.sparsity.channels.costs import macs_cost
from campfire_fx.training.couple import coupled_channels
from campfire_fx.training.dead_channels import living_groups
from campfire_fx.training.sparsify import sparsify

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
Widths = dict[str, int]


class Tiny(nn.Module):
    """A residual stream, a depthwise layer in the branch, and a last layer of its own: three coupled sets."""

    def __init__(self, stream: int, inner: int, last: int) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, stream, 3, padding=1, bias=False), nn.BatchNorm2d(stream)
        self.up, self.bn1 = nn.Conv2d(stream, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.deep = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.down, self.bn2 = nn.Conv2d(inner, stream, 1, bias=False), nn.BatchNorm2d(stream)
        self.last, self.fc = nn.Conv2d(stream, last, 1), nn.Linear(last, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)))
        x = F.relu(x + self.bn2(self.down(self.deep(F.relu(self.bn1(self.up(x)))))))
        return self.fc(F.relu(self.last(x)).mean((2, 3)))


DENSE: Widths = {"stream": 7, "inner": 12, "last": 9}
WRITERS = {"stream": "stem", "inner": "up", "last": "last"}


def tiny(seed: int) -> Tiny:
    torch.manual_seed(seed)
    net = Tiny(**DENSE)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return net


def square(tensor: Tensor) -> float:
    return sum(number * number for number in tensor.detach().double().flatten().tolist())


def flow(net: Tiny) -> dict[str, list[float]]:
    """[sum over its norms of weight^2 + bias^2] * [sum over its readers of ||W[:, c]||^2 / ||W||^2]."""
    norms = {"stream": (net.bn, net.bn2), "inner": (net.bn1,), "last": ()}
    readers = {"stream": (net.up, net.last), "inner": (net.down,), "last": (net.fc,)}
    scores: dict[str, list[float]] = {}
    for name, width in DENSE.items():
        scores[name] = []
        for c in range(width):
            written = sum(square(norm.weight[c]) + square(norm.bias[c]) for norm in norms[name])
            if name == "last":
                written = square(net.last.weight[c]) + square(net.last.bias[c])
            read = sum(square(layer.weight[:, c]) / square(layer.weight) for layer in readers[name])
            scores[name].append(written * read)
    return scores


@cache
def counted(key: str, *widths: int) -> float:
    """Count what a network of these widths costs."""
    narrow = Tiny(*widths)
    return macs(narrow, (IMAGE,)).total if key == "macs" else parameters(narrow)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of one pruning."""

    target: Mapping[str, float]
    at_least: float = 0.15
    round_to: int = 1
    scope: str = "global"


def brute_force(net: Tiny, wish: Wish) -> dict[str, set[int]] | None:
    """Return which channels die; None where the target cannot be met."""
    scores = flow(net)
    order = {name: sorted(range(width), key=scores[name].__getitem__) for name, width in DENSE.items()}
    left = dict(DENSE)
    floor = {
        n: max(1, math.ceil(wish.at_least * w) if wish.at_least < 1 else int(wish.at_least)) for n, w in DENSE.items()
    }
    while True:
        excess = {
            key: counted(key, *left.values()) - part * counted(key, *DENSE.values())
            for key, part in wish.target.items()
        }
        excess = {key: over for key, over in excess.items() if over > 0}
        if not excess:
            return {name: set(order[name][: DENSE[name] - left[name]]) for name in DENSE}
        prices: dict[str, float] = {}
        for name in DENSE:
            chunk = left[name] % wish.round_to or wish.round_to
            if left[name] - chunk < floor[name]:
                continue
            gone = DENSE[name] - left[name]
            lost = sum(scores[name][c] for c in order[name][gone : gone + chunk])
            narrower = left | {name: left[name] - 1}
            saved = sum(
                (counted(key, *left.values()) - counted(key, *narrower.values())) / over for key, over in excess.items()
            )
            prices[name] = lost / (saved * chunk) if wish.scope == "global" else -left[name] / DENSE[name]
        if not prices:
            return None
        weakest = min(prices, key=prices.__getitem__)
        left[weakest] -= left[weakest] % wish.round_to or wish.round_to


WISHES = (
    Wish({"macs": 0.7}),
    Wish({"macs": 0.5}),
    Wish({"macs": 0.25}),
    Wish({"macs": 0.5}, at_least=0.5),
    Wish({"macs": 0.6}, at_least=5),
    Wish({"macs": 0.5}, round_to=2),
    Wish({"macs": 0.5}, round_to=4),
    Wish({"macs": 0.55}, at_least=0.5, round_to=3),
    Wish({"macs": 0.35}, at_least=0.5, round_to=4),
    Wish({"parameters": 0.5}),
    Wish({"macs": 0.6, "parameters": 0.4}),
    Wish({"macs": 0.4, "parameters": 0.6}, round_to=2),
    Wish({"macs": 0.5}, scope="each set"),
    Wish({"macs": 0.5}, scope="each set", round_to=2),
)


@pytest.mark.parametrize("wish", WISHES, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_cheapest_for_what_they_save_die_first(wish: Wish, seed: int) -> None:
    net = tiny(seed)
    expected = brute_force(net, wish)
    settings = {"target": wish.target, "at_least": wish.at_least, "round_to": wish.round_to, "scope": wish.scope}
    if expected is None:
        with pytest.raises(RegimeError, match="cannot be met; the least is"):
            sparsify(net, "channel", example_inputs=IMAGE, **settings)
        return
    model = sparsify(net, "channel", example_inputs=IMAGE, **settings).finalize()
    for name, path in WRITERS.items():
        mask = model.get_submodule(path).mask
        assert {k for k in range(DENSE[name]) if not mask[k].any()} == expected[name], name
    coupling = model._life_cycle.state.coupling
    assert coupling is not None
    assert int((~living_groups(model, coupling)).sum()) == sum(map(len, expected.values()))
    slim = model.shrink()
    widths = {name: slim.get_parameter(f"{path}.weight").shape[0] for name, path in WRITERS.items()}
    assert widths == {name: DENSE[name] - len(expected[name]) for name in DENSE}


def test_wishes_are_of_both_kinds() -> None:
    outcomes = [brute_force(tiny(0), wish) is None for wish in WISHES]
    assert any(outcomes) and outcomes.count(False) > 8


def test_a_floor_that_is_no_multiple_is_raised_to_one() -> None:
    with pytest.raises(RegimeError, match=r"Ask for less, or lower at_least or round_to\."):
        sparsify(tiny(0), "channel", target={"macs": 0.35}, at_least=0.5, round_to=4, example_inputs=IMAGE)


def test_layers_of_several_places_round_by_their_filters() -> None:
    """A convolution that is flattened is read at many places; its filters are what is rounded."""
    torch.manual_seed(0)
    convolved = nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Flatten()
    net = nn.Sequential(*convolved, nn.Linear(768, 9), nn.ReLU(), nn.Linear(9, 5))
    slim = sparsify(net, "channel", target={"macs": 0.6}, round_to=4, example_inputs=IMAGE).finalize().shrink()
    assert slim.get_parameter("0.weight").shape[0] % 4 == 0


def test_coarse_steps_end_at_the_floor() -> None:
    coupling = coupled_channels(Tiny(4, 200, 4), IMAGE)
    floor = floors(coupling, [0.16] * 3)
    scores, alive = np.ones(coupling.groups), np.ones(coupling.groups, dtype=np.bool_)
    left = choose(coupling, scores, alive, [Limit(macs_cost(coupling), 0.0)], floor, coarse=True)
    assert coupling.widths(left).tolist() == floor.tolist() == [1, 32, 1]


class Assisted(Tiny):
    """With a head that only training uses, and a layer that nothing does."""

    def __init__(self) -> None:
        super().__init__(**DENSE)
        self.helper, self.idle = nn.Conv2d(7, 40, 3), nn.Conv2d(7, 30, 3)

    def forward(self, x: Tensor) -> Any:
        if not self.training:
            return super().forward(x)
        return super().forward(x), self.helper(self.stem(x)).mean((2, 3))


def test_parameters_are_those_of_the_slim_model() -> None:
    """What a shrink drops anyway is neither in the dense count nor in the slim one."""
    torch.manual_seed(0)
    model = sparsify(Assisted(), "channel", target={"parameters": 0.5}, example_inputs=IMAGE)
    coupling = model._life_cycle.state.coupling
    assert coupling is not None and coupling.dense["parameters"] == parameters(Tiny(**DENSE))
    slim = model.finalize().shrink()
    now = next(cost.now for cost in model.sparsity().costs if cost.name == "parameters")
    assert parameters(slim) == pytest.approx(now * coupling.dense["parameters"])
    assert 0.4 < now <= 0.5
