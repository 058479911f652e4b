"""Attention written out: queries meet keys in a product, values pass it, and heads keep equal numbers of channels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import case, conv, zero

X = (2, 3, 6, 6)


def _silence(**rows: tuple[int, ...]) -> Any:
    """Zero rows of layers, their biases included: what they make is zero."""

    def damage(net: Any) -> None:
        for name, dead in rows.items():
            layer = net.get_submodule(name)
            zero(layer.weight, *dead)
            zero(layer.bias, *dead)

    return damage


# Two heads of 3 queries, 3 keys, 4 values. Of the first head query 0, key 2 and value 1 are silent, of the second
# queries 0 and 1 and values 0 and 3: what is left of each head must be as much.
@case(X, damage=_silence(mix=(0, 5, 7, 10, 11, 16, 19)),
      kept={"mix.weight": (10, 6, 1, 1), "out.weight": (4, 6, 1, 1), "near.weight": (6, 1, 3, 3)})  # fmt: skip
class HeadsInOneLayer(nn.Module):
    """One convolution makes queries, keys and values of all heads; different channels die in each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = conv(3, 6), nn.Conv2d(6, 20, 1)
        self.near, self.out = conv(8, 8, groups=8), conv(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        q, k, v = self.mix(self.stem(x)).view(b, 2, 10, h * w).split([3, 3, 4], 2)
        weights = (q.transpose(-2, -1) @ k).mul(3**-0.5).softmax(-1)
        y = (v @ weights.transpose(-2, -1)).view(b, 8, h, w)
        return self.out(y + self.near(v.reshape(b, 8, h, w)))


# Of each head of 4: one query and one value (of the second head another, and one key).
@case(X, damage=_silence(make=(0, 5, 10, 16, 23)), kept={"make.weight": (18, 8), "out.weight": (8, 6)})
class Tokens(nn.Module):
    """Tokens as in a vision transformer: queries, keys and values are stacked, then unbound."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.make, self.out, self.head = conv(3, 8), nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        b, n, c = x.shape
        q, k, v = self.make(x).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(q * 0.5 @ k.transpose(-2, -1), -1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(b, n, c))
        return self.head(x.mean(1))


@case(
    X,
    damage=_silence(q=(0, 1), k=(1, 4), v=(2, 5)),
    kept={"q.weight": (3, 8, 1, 1), "k.weight": (3, 8, 1, 1), "v.weight": (6, 8, 1, 1), "out.weight": (8, 6, 1, 1)},
)
class NonLocal(nn.Module):  # fmt: skip
    """A non-local block with `bmm`: a channel goes from queries and keys where it is zero in either."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.q, self.k = conv(3, 8), nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 1)
        self.v, self.out, self.head = nn.Conv2d(8, 8, 1), conv(8, 8, 1), conv(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        weights = torch.bmm(self.q(x).flatten(2).transpose(1, 2), self.k(x).flatten(2)).softmax(-1)
        y = torch.bmm(self.v(x).flatten(2), weights.transpose(1, 2)).unflatten(-1, x.shape[2:])
        return self.head(x + self.out(y))


@case(
    X,
    damage=_silence(q=(0,), k=(6,), v=(0, 7)),
    kept={"q.weight": (6, 4, 1, 1), "k.weight": (6, 4, 1, 1), "v.weight": (6, 4, 1, 1), "out.weight": (4, 6, 1, 1)},
)
class Equations(nn.Module):  # fmt: skip
    """The same in einsum, heads in a dimension of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.q, self.k = conv(3, 4), nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 1)
        self.v, self.out = nn.Conv2d(4, 8, 1), conv(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        x = self.stem(x)
        q, k, v = (layer(x).reshape(b, 2, 4, h * w) for layer in (self.q, self.k, self.v))
        weights = torch.einsum("bgdi,bgdj->bgij", q, k).softmax(-1)
        return self.out(torch.einsum("bgij,bgdj->bgdi", weights, v).reshape(b, 8, h, w))


class _OneCall(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.stem, self.q, self.k, self.v, self.out = conv(3, 4), *(nn.Linear(4, 8) for _ in "qkv"), nn.Linear(8, 4)
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        q, k, v = (layer(x).unflatten(-1, (2, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.out(F.scaled_dot_product_attention(q, k, v, **self.options).transpose(1, 2).flatten(2))


# Of the first head query 0 and value 0 are zero; of the second all keys are alike in channel 1, all values in 3.
@case(
    X,
    damage=_silence(q=(0,), v=(0,)),
    kill={"k": (5,), "v": (7,)},
    kept={"q.weight": (6, 4), "k.weight": (6, 4), "v.weight": (6, 4), "out.weight": (4, 6)},
)
def OneCall() -> nn.Module:
    """Attention in one call: it divides by the root of the number of queries' channels that there were."""
    return _OneCall()


@case(
    X,
    damage=_silence(q=(0,), v=(0,)),
    kill={"k": (5,), "v": (7,)},
    kept={"q.weight": (6, 4), "k.weight": (6, 4), "v.weight": (8, 4), "out.weight": (4, 8)},
)
def OneCallMasked() -> nn.Module:
    """Attention under a mask, with a scale of its own: a row that sees nothing has no mean of the values."""
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    return _OneCall(scale=0.7, attn_mask=mask)


@case(
    X,
    damage=_silence(q=(0, 5), k=(1, 6)),
    kept={"q.weight": (6, 4), "k.weight": (6, 4), "out.weight": (4, 6)},
)
class KeysAreValues(nn.Module):
    """Keys that are values too: a channel that no query asks for still passes; what is zero in them goes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.q, self.k, self.out = conv(3, 4), nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        q, k = (layer(x).unflatten(-1, (2, 4)).transpose(1, 2) for layer in (self.q, self.k))
        return self.out(F.scaled_dot_product_attention(q, k, k).transpose(1, 2).flatten(2))
