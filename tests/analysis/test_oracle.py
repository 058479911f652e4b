"""Brute force: the fewest channels from which a layer can still compute what is needed of it.

For each place where weights read a tensor, every set of channels is tried in order of size: a set will do if some
kernels of the same shape and some bias, found by least squares on the real activations, give the same outputs at every
position, border included. Nothing here knows of constants, folding or merging; random weights leave no other way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx import shrink
from tests.nets.case import block, conv, named
from tests.random_zeros import random_zeros, randomise, zero_filters

SIZE = 6
BATCH = 12


def columns(layer: nn.Module, x: Tensor) -> Tensor:
    """Return the im2col view of what a convolution or linear layer reads: (rows, channels, taps)."""
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, layer.in_features, 1)
    assert isinstance(layer, nn.Conv2d) and layer.groups == 1
    padding: Any = layer.padding
    if layer.padding_mode != "zeros":
        x, padding = F.pad(x, layer._reversed_padding_repeated_twice, layer.padding_mode), 0
    taps = F.unfold(x, layer.kernel_size, layer.dilation, padding, layer.stride)
    return taps.transpose(1, 2).reshape(-1, x.shape[1], layer.kernel_size[0] * layer.kernel_size[1])


def outputs_of(layer: Any, x: Tensor) -> Tensor:
    """Return what a layer makes of it: (rows, outputs)."""
    y = layer(x)
    return y.reshape(-1, y.shape[-1]) if isinstance(layer, nn.Linear) else y.flatten(2).transpose(1, 2).flatten(0, 1)


def will_do(seen: Tensor, wanted: Tensor, channels: tuple[int, ...]) -> bool:
    """Whether some kernels over these channels, and a bias, give the wanted outputs at every position."""
    matrix = torch.cat([seen[:, list(channels)].flatten(1), torch.ones(len(seen), 1, dtype=seen.dtype)], 1)
    found = torch.linalg.lstsq(matrix, wanted, driver="gelsd").solution
    return float((matrix @ found - wanted).abs().max()) <= 1e-9 * max(1.0, float(wanted.abs().max()))


def fewest(reads: list[tuple[Tensor, Tensor]], width: int) -> int:
    """Return the size of the smallest set of channels that will do for every reader; never less than one."""
    for count in range(1, width + 1):
        for channels in itertools.combinations(range(width), count):
            if all(will_do(seen, wanted, channels) for seen, wanted in reads):
                return count
    raise AssertionError("not even all channels will do: the oracle is wrong")


def least(model: nn.Module, x: Tensor, places: list[tuple[str, ...]]) -> dict[str, int]:
    """Return the fewest input channels of each layer, all of whose outputs are needed.

    Layers in one tuple read the same tensor.
    """
    inputs: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: inputs.__setitem__(name, args[0].detach())
        )
        for name in itertools.chain(*places)
    ]
    with torch.no_grad():
        model.eval()(x)
        for handle in handles:
            handle.remove()
        found: dict[str, int] = {}
        for names in places:
            layers = [(model.get_submodule(name), inputs[name]) for name in names]
            reads = [(columns(layer, seen), outputs_of(layer, seen)) for layer, seen in layers]
            found.update(dict.fromkeys(names, fewest(reads, reads[0][0].shape[1])))
    return found


def leaky(inputs: int, outputs: int, size: int = 3) -> nn.Sequential:
    """Return convolution, norm and an activation that lets no living channel be zero by accident of the images."""
    return nn.Sequential(conv(inputs, outputs, size), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.3))


class Residual(nn.Module):
    """A residual sum, then a padded and a 1 x 1 reader of it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = leaky(3, 6), leaky(6, 6), conv(6, 3), conv(6, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.a(x)
        x = x + self.b(x)
        return self.c(x), self.d(x)


class Joined(nn.Module):
    """A concatenation of two branches, pooled, read by a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = leaky(3, 4), leaky(3, 3, 1), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.cat([self.a(x), self.b(x)], 1).mean((2, 3)))


class Strided(nn.Module):
    """Activations of many kinds, a strided dilated reader."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = (
            conv(3, 7, bias=True),
            nn.BatchNorm2d(7),
            conv(7, 2, stride=2, dilation=2, padding=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.hardswish(self.norm(self.a(x))))


NETS: dict[str, Callable[[], tuple[nn.Module, list[tuple[str, ...]]]]] = {
    "padded": lambda: (named(a=leaky(3, 7), b=conv(7, 3)), [("b",)]),
    "unpadded": lambda: (named(a=leaky(3, 7), b=conv(7, 3, padding=0)), [("b",)]),
    "circular": lambda: (named(a=leaky(3, 6), b=conv(6, 3, padding_mode="circular")), [("b",)]),
    "residual": lambda: (Residual(), [("c", "d")]),
    "joined": lambda: (Joined(), [("fc",)]),
    "strided": lambda: (Strided(), [("b",)]),
    "pooled": lambda: (named(a=leaky(3, 6), p=nn.MaxPool2d(3, 1, 1), b=conv(6, 3)), [("b",)]),
    "slopes": lambda: (named(a=conv(3, 6, bias=True), p=nn.PReLU(6), b=conv(6, 3)), [("b",)]),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NETS)
def test_shrink_reaches_the_fewest_channels(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    net, places = NETS[name]()
    net = random_zeros(randomise(net.double(), seed), seed)
    x = torch.randn(BATCH, 3, SIZE, SIZE, dtype=torch.float64)
    wanted = least(net, x, places)
    slim = shrink(net, x, verify=False)
    state = slim.state_dict()
    kept = {layer: state[f"{layer}.weight"].shape[1] for layer in wanted}
    assert kept == wanted, f"{name}, seed {seed}: kept {kept} input channels, {wanted} would do"


def test_the_oracle_knows_that_a_constant_at_a_padded_border_costs_one_channel() -> None:
    net: Any = randomise(named(a=block(3, 6), b=conv(6, 3)).double(), 0, positive=True)
    zero_filters(net.a[0], (0, 2, 5))
    x = torch.randn(BATCH, 3, SIZE, SIZE, dtype=torch.float64)
    assert least(net, x, [("b",)]) == {"b": 4}  # three alive, one for three constants


def test_the_oracle_keeps_all_that_lives() -> None:
    net = randomise(named(a=block(3, 5), b=conv(5, 3, padding=0)).double(), 0)
    x = torch.randn(BATCH, 3, SIZE, SIZE, dtype=torch.float64)
    assert least(net, x, [("b",)]) == {"b": 5}
