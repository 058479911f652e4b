"""Channels that leave the image: flattened, turned into tokens, averaged, read by linear layers, put back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import block, case, conv, named

X = (2, 3, 8, 8)


@case(X, kill={"a": (0, 1, 8)}, other=((3, 3, 8, 8),), kept={"a.weight": (13, 3, 3, 3), "fc.weight": (10, 832)})
class ViewWritten(nn.Module):
    """A flattening with its size written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = conv(3, 16), nn.Linear(1024, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.a(x)).view(-1, 1024))


@case(X, kill={"a.0": (1, 2)}, other=((3, 3, 8, 8),), kept={"a.0.weight": (6, 3, 3, 3), "fc.weight": (10, 96)})
class FlattenLinear(nn.Module):
    """Flattened channels read by a linear layer, dead ones constants: sixteen columns each."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = block(3, 8), nn.Linear(8 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(F.max_pool2d(self.a(x), 2), 1))


@case(X, kill={"a.0": (1, 2)}, other=((3, 3, 8, 8),), kept={"a.0.weight": (6, 3, 3, 3), "fc.weight": (10, 384)})
class NhwcFlatten(nn.Module):
    """Channels last, then flattened: each channel's columns are scattered."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = block(3, 8), nn.Linear(8 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).permute(0, 2, 3, 1)
        return self.fc(x.reshape(x.shape[0], -1))


@case(X, kill={"a.0": (1, 2), "b": (3,)}, kept={"a.0.weight": (6, 3, 3, 3), "b.weight": (5, 6), "c.weight": (4, 5)})
class TokensLinear(nn.Module):
    """Pixels become tokens, read by linear layers, averaged over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = block(3, 8), nn.Linear(8, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.a(x).flatten(2).mT
        return self.c(F.gelu(self.b(tokens))).mean(dim=1)


@case(X, kill={"a.0": (1, 2)}, kept={"a.0.weight": (6, 3, 3, 3), "fc.weight": (4, 6)})
class MeanLinear(nn.Module):
    """Averaged over space, then read by a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = block(3, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.a(x).mean([-2, -1]))


@case(X, kill={"a.0": (1, 2)}, kept={"a.0.weight": (6, 3, 3, 3), "weight": (4, 6)})
class EinsumClassifier(nn.Module):
    """A classifier written with einsum on a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.weight = block(3, 8), nn.Parameter(torch.randn(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,kc->nkhw", self.a(x), self.weight).mean((2, 3))


@case(
    X,
    kill={"a": (0, 1), "up": (3, 4, 5)},
    kept={"a.weight": (6, 3, 3, 3), "up.weight": (13, 6), "down.weight": (8, 13)},
)
class NhwcBlock(nn.Module):
    """Linear layers on channels last, then back (ConvNeXt without its norm)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = conv(3, 8), conv(8, 5, 1)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(self.down(F.gelu(self.up(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2))


@case(X, other=((3, 3, 8, 8),), kill={"a": (0, 1)}, kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 6, 1, 1)})
def FlattenUnflatten() -> nn.Module:
    """Flattened and unflattened again by modules, the sizes written by hand."""
    return named(a=conv(3, 8), flat=nn.Flatten(), back=nn.Unflatten(1, (8, 8, 8)), b=conv(8, 5, 1))


@case(X, kill={"a": (0, 3)}, kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 6, 1, 1)})
class WrittenWidth(nn.Module):
    """The number of channels written by hand in a view, and asked for in another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        n, _, h, w = x.shape
        x = x.view(n, 8, h * w).sigmoid()
        return self.b(x.view(n, x.size(1), h, w))
