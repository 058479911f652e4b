"""Movement whose sizes or numbers the removal breaks: what it is rewritten to, in the graph that comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx import shrink
from tests.assertions import assert_same_output
from tests.random_zeros import randomise

X = torch.randn(2, 3, 6, 6, dtype=torch.float64)
DEAD = (1, 4, 5)


class Moved(nn.Module):
    """Eight channels of which three are dead, moved, and mixed again."""

    def __init__(self, move: Callable[[Tensor], Tensor], channels: int = 8) -> None:
        super().__init__()
        self.a, self.b, self.move = nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(channels, 5, 1), move

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.move(self.a(x)))


def swap(pieces: Any) -> Tensor:
    return torch.cat(list(pieces)[::-1], 1)


def shuffle(y: Tensor) -> Tensor:
    n, c, h, w = y.shape
    return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


# the movement, channels after it, the actions of the repairs
MOVES: dict[str, tuple[Callable[[Tensor], Tensor], int, list[str]]] = {
    "split": (lambda y: swap(y.split([3, 5], 1)), 8, ["sizes rewritten"]),
    "chunk": (lambda y: swap(y.chunk(2, 1)), 8, []),
    "tensor_split": (lambda y: swap(torch.tensor_split(y, (1, 2), 1)), 8, ["sizes rewritten", "sizes rewritten"]),
    "split by name": (lambda y: swap(torch.split(tensor=y, split_size_or_sections=4, dim=1)), 8, ["sizes rewritten"]),
    "view": (lambda y: y.view(2, 8, 36).view(-1, 8, 6, 6), 8, ["sizes rewritten", "sizes rewritten"]),
    "unflatten": (lambda y: y.unflatten(1, (8, 1)).flatten(1, 2), 8, ["sizes rewritten"]),
    "unflatten by name": (lambda y: y.unflatten(dim=1, sizes=(1, 8)).flatten(1, 2), 8, ["sizes rewritten"]),
    "expand": (lambda y: y.mean((2, 3), keepdim=True).expand(-1, 8, 6, 6), 8, ["sizes rewritten"]),
    "shuffle": (shuffle, 8, ["replaced by index_select"]),
    "slice": (lambda y: y[:, 2:7], 5, ["replaced by the tensor itself"]),
    "every second": (lambda y: y[:, ::2], 4, ["replaced by the tensor itself"]),
    "pad": (lambda y: F.pad(y, (0, 0, 0, 0, 1, 2)), 11, ["sizes rewritten"]),
    "one": (lambda y: y.select(1, 6).unsqueeze(1) + y[:, 3].unsqueeze(1), 1, ["sizes rewritten"] * 2),
    "cat by name": (lambda y: torch.cat(tensors=[y[:, :2], y[:, 2:]], dim=1), 8, ["replaced by narrow"] * 2),
}


@pytest.mark.parametrize("name", MOVES)
def test_exact_smaller_and_said(name: str) -> None:
    move, channels, actions = MOVES[name]
    model = randomise(Moved(move, channels).double(), 0)
    with torch.no_grad():
        model.a.weight[list(DEAD)] = 0
    slim: Any = shrink(model, X)
    assert_same_output(model, slim, (X,))
    assert slim.a.out_channels < 8, "nothing went"
    assert [repair.action for repair in slim.plan.repairs] == actions


@pytest.mark.parametrize(("dead", "left"), [(DEAD, 8), ((4, 5, 6, 7), 4)])
def test_pixels_of_one_channel_go_together(dead: tuple[int, ...], left: int) -> None:
    model = randomise(Moved(lambda y: F.pixel_shuffle(y, 2), 2).double(), 0)
    with torch.no_grad():
        model.a.weight[list(dead)] = 0
    slim: Any = shrink(model, X)
    assert_same_output(model, slim, (X,))
    assert slim.a.out_channels == left
    assert slim.plan.layers[0].reason == ("3 empty, but shared" if left == 8 else "")


def test_what_cannot_be_rewritten_is_kept_and_said() -> None:
    class Read(Moved):
        def forward(self, x: Tensor) -> Any:
            y = self.a(x)
            return self.b(y), sum(part.mean() for part in y.unbind(1))

    model = randomise(Read(lambda y: y).double(), 0)
    with torch.no_grad():
        model.a.weight[list(DEAD)], model.b.weight[:, list(DEAD)] = 0, 0
    slim: Any = shrink(model, X)
    assert_same_output(model, slim, (X,))
    assert slim.a.out_channels == 8 and slim.plan.pins


def test_sizes_that_the_image_gives_stay_free() -> None:
    model = randomise(Moved(shuffle).double(), 0)
    with torch.no_grad():
        model.a.weight[[0, 4]] = 0
    slim = shrink(model, X)
    other = torch.randn(3, 3, 9, 7, dtype=torch.float64)
    assert_same_output(model, slim, (other,))
