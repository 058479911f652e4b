"""Operations that mix channels without weights: what they touch stays, and the plan says why; the rest shrinks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import block, case, conv, named

X = (2, 3, 8, 8)
HELD = {"a.weight": (8, 3, 3, 3), "c.weight": (4, 4, 1, 1)}
DEAD = {"a": (0, 1), "b": (2,)}


@case(X, kill=DEAD, kept=HELD, pins=("norm",))
def GroupNormOfOneGroup() -> nn.Module:
    """GroupNorm with one group measures all channels together: a dead one counts."""
    return named(a=conv(3, 8), norm=nn.GroupNorm(1, 8), b=conv(8, 5), c=conv(5, 4, 1))


@case(X, kill=DEAD, kept=HELD, pins=("norm",))
class LayerNormOverChannels(nn.Module):
    """LayerNorm over channels moved to the end."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.c = conv(3, 8), nn.LayerNorm(8), conv(8, 5), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.c(self.b(x))


@case(X, kill=DEAD, kept=HELD, pins=("norm",), other=((3, 3, 8, 8),))
def LayerNormOverAll() -> nn.Module:
    """LayerNorm over channels and space."""
    return named(a=conv(3, 8), norm=nn.LayerNorm([8, 8, 8]), b=conv(8, 5), c=conv(5, 4, 1))


@case(X, kill=DEAD, kept=HELD, pins=("norm",))
def LocalResponse() -> nn.Module:
    """Local response normalisation: each channel measured with its neighbours."""
    return named(a=conv(3, 8), norm=nn.LocalResponseNorm(3), b=conv(8, 5), c=conv(5, 4, 1))


@case(X, kill=DEAD, kept=HELD, pins=("norm",))
class SoftmaxOverChannels(nn.Module):
    """A softmax over channels: a zero takes its share."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 5), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).softmax(1)))


@case(X, kill=DEAD, kept={"c.weight": (4, 4, 1, 1)})
class Normalised(nn.Module):
    """Channels divided by their common length, sorted, and compared with their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 5), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.normalize(self.a(x), dim=1)
        x = torch.sort(x, dim=1).values - x.mean(1, keepdim=True) + x.norm(dim=1, keepdim=True)
        return self.c(self.b(x / (x.std(1, keepdim=True) + 1)))


@case(X, kill={"a": (0, 1)}, kept={"a.weight": (6, 3, 3, 3), "value.weight": (8, 6, 1, 1)})
class AttentionOverSpace(nn.Module):
    """Attention between pixels: queries and keys are contracted, values pass to a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = conv(3, 8), conv(8, 4, 1)
        self.query, self.key, self.value = conv(8, 4, 1), conv(8, 4, 1), conv(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        weight = torch.softmax(query.transpose(1, 2) @ key / 2, dim=-1)
        return self.c(torch.matmul(value, weight.transpose(1, 2)).view(x.shape[0], -1, *x.shape[2:]))


@case(X, kill=DEAD, kept={"c.weight": (4, 4, 1, 1)}, pins=("",))
class AttentionModule(nn.Module):
    """torch's own attention on tokens: it is not looked into."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 5), conv(5, 4, 1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        tokens = x.flatten(2).transpose(1, 2)
        tokens, _ = self.attention(tokens, tokens, tokens)
        return self.c(self.b(tokens.transpose(1, 2).view_as(x)))


@case(X, kill=DEAD, kept={"c.weight": (4, 4, 1, 1)}, pins=("",))
class Recurrent(nn.Module):
    """A recurrent layer over the columns of the image (CRNN)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(12, 5, 1), conv(5, 4, 1)
        self.rnn = nn.LSTM(8, 6, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        columns, _ = self.rnn(self.a(x).mean(2).transpose(1, 2))
        return self.c(self.b(columns.transpose(1, 2).unsqueeze(2)))


@case(X, kill=DEAD, kept=HELD, pins=("",))
class Fourier(nn.Module):
    """A transform along channels that no rule knows."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 5), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(torch.fft.fft(self.a(x), dim=1).real))


@case(X, kill=DEAD, kept={"c.weight": (4, 4, 1, 1)}, pins=("",))
class PatchesUnfolded(nn.Module):
    """Patches taken with F.unfold, read by a linear layer, put together again."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.mix, self.b, self.c = conv(3, 8), nn.Linear(72, 8), conv(8, 5), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        patches = F.unfold(x, 3, padding=1)
        return self.c(self.b(self.mix(patches.transpose(1, 2)).transpose(1, 2).view(x.shape)))


@case(X, kill=DEAD, kept={"c.weight": (4, 4, 1, 1)}, pins=("",))
class WrittenInPlace(nn.Module):
    """Some channels of a copy are overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 5), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).clone()
        x[:, 1:3] = x[:, 3:5] + 1
        return self.c(self.b(x))


@case(X, kill=DEAD, kept={"c.weight": (4, 4, 1, 1)})
class ActivatedInPlace(nn.Module):
    """An activation in place on a slice, on a view, and on the tensor itself while another name holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 5), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        same = x
        x[:, :4].add_(1.0)
        x.view(x.shape[0], -1).mul_(0.5)
        x.relu_()
        return self.c(self.b(same))


class Opaque(nn.Module):
    """A module that no tracer can look into: it branches on the data."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sort(1).values if float(x.sum()) > 0 else x.flip(1)


@case(
    X,
    kill={"a.first": (0,), "a.last": (0, 1), "b.first": (2,)},
    kept={"a.last.weight": (8, 5, 3, 3), "b.last.weight": (4, 4, 1, 1)},
)
class Islands(nn.Module):
    """Data-dependent control flow between two traceable parts: each shrinks by itself, their edges stay."""

    def __init__(self) -> None:
        super().__init__()
        self.a: Any = named(first=conv(3, 6), act=nn.ReLU(), last=conv(6, 8))
        self.b = named(first=conv(8, 5), last=conv(5, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x.sort(1).values if float(x.sum()) > 0 else x.flip(1)
        return self.b(x)


@case(X, kill={"a.0": (0, 1), "c.0": (1, 2)}, kept={"c.0.weight": (3, 8, 3, 3), "d.weight": (4, 3, 1, 1)})
class OpaqueModule(nn.Module):
    """A module that cannot be traced, in the middle of a model that can."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.opaque, self.c, self.d = block(3, 8), Opaque(), block(8, 5), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(self.opaque(self.a(x))))
