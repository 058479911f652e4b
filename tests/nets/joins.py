"""Tensors that meet: sums, products, concatenations. Channels that meet in a sum live or die together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import block, case, conv

X = (2, 3, 8, 8)


@case(
    X,
    kill={"a.0": (0,), "b.0": (1, 2)},
    kept={"c.weight": (5, 6, 3, 3)},  # 3 + 2 alive, and one of three constants for the padded reader
)
class Concat(nn.Module):
    """A concatenation read by a padded convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = block(3, 4), block(3, 4), conv(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.cat([self.a(x), self.b(x)], 1))


@case(
    X,
    kill={"a.0": (0,), "b.0": (1, 2)},
    kept={"a.0.weight": (3, 3, 3, 3), "b.0.weight": (2, 3, 3, 3), "c.weight": (5, 8, 1, 1), "c.bias": (5,)},
    made=("c.bias",),
)
class ConcatOfConcat(nn.Module):
    """A concatenation of a concatenation, one part twice, the dimension counted from the end."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = block(3, 4), block(3, 4), conv(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        both = torch.cat((a, self.b(x)), dim=-3)
        return self.c(torch.cat(tensors=[both, a], dim=1))


@case(
    X,
    kill={"a": (0,), "b": (1,), "c": (0, 2)},
    kept={"b.weight": (3, 3, 3, 3), "c.weight": (2, 6, 3, 3), "d.weight": (5, 8, 1, 1)},
)
class DenseBlock(nn.Module):
    """A dense block: each layer reads all that came before."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = conv(3, 4), conv(4, 4), conv(8, 4), conv(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.a(x)]
        for layer in (self.b, self.c):
            found.append(F.relu(layer(torch.cat(found, 1))))
        return self.d(torch.cat(found, 1))


@case(
    X,
    kill={"a.0": (0, 4), "b.0": (1, 2)},
    # b keeps one constant of a; c merges its three others into that one.
    kept={"a.0.weight": (5, 3, 3, 3), "b.0.weight": (6, 5, 3, 3), "c.weight": (5, 11, 3, 3)},
)
class UNet(nn.Module):
    """A U-Net: pooled, resized to the size of an earlier tensor, concatenated with it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = block(3, 6), block(6, 8), conv(14, 5)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        return self.c(torch.cat([a, F.interpolate(b, size=a.shape[-2:], mode="bilinear", align_corners=False)], 1))


@case(
    X,
    kill={"a": (0, 1), "b": (1, 2)},
    kept={"a.weight": (7, 3, 3, 3), "b.weight": (7, 3, 3, 3), "c.weight": (5, 7, 3, 3)},
)
class StackSum(nn.Module):
    """Two branches stacked and summed: a sum that does not look like one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(3, 8), conv(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.stack([self.a(x), self.b(x)], dim=0).sum(dim=0))


@case(
    X,
    kill={"a": (0, 1)},
    kept={"a.weight": (6, 3, 3, 3), "b.0.weight": (6, 3, 3, 3), "c.weight": (5, 6, 3, 3)},
)
class ProductOfBranches(nn.Module):
    """A product with a channel that is zero is zero, whatever the other factor does."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), block(3, 8), conv(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.a(x) * torch.sigmoid(self.b(x)))


@case(X, kill={"a": (0, 1), "b": (1, 2)}, kept={"a.weight": (7, 3, 3, 3), "c.weight": (5, 7, 1, 1)})
class MaximumOfBranches(nn.Module):
    """The larger of two branches, element by element."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(3, 8), conv(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.maximum(self.a(x), self.b(x)))


@case(
    X,
    kill={"a": (2, 3)},
    kept={"a.weight": (6, 3, 3, 3), "gate.weight": (1, 6, 1, 1), "c.weight": (5, 6, 3, 3)},
)
class SpatialAttention(nn.Module):
    """One channel spread over all others by broadcasting: it stays, and couples nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.gate, self.c = conv(3, 8), conv(8, 1, 1, bias=True), conv(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(x * torch.sigmoid(self.gate(x)))


@case(X, kill={"a.0": (2, 3), "c": (0,)}, kept={"a.0.weight": (8, 3, 3, 3), "c.weight": (7, 8, 3, 3)})
class BroadcastSum(nn.Module):
    """One channel added to all others: a constant plus that is no constant."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = block(3, 8), conv(3, 1), conv(8, 8), conv(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(self.a(x) + self.b(x)))


@case(
    X,
    kill={"a": (0, 1), "squeeze": (2,), "excite": (3,)},
    # Channels 0 and 1 are zero, so what excites them goes too; an excitation that is constant does not kill.
    kept={"a.weight": (6, 3, 3, 3), "squeeze.weight": (3, 6, 1, 1), "excite.weight": (6, 3, 1, 1),
          "c.weight": (5, 6, 3, 3)},
)  # fmt: skip
class SqueezeExcite(nn.Module):
    """Squeeze and excite: a channel times a number that depends on all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = conv(3, 8), conv(8, 5)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        scale = F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        return self.c(torch.sigmoid(self.excite(scale)) * x)


@case(
    X,
    kill={"a": (0, 1), "squeeze": (2,)},
    kept={"a.weight": (6, 3, 3, 3), "squeeze.weight": (3, 6), "excite.weight": (6, 3), "c.weight": (5, 6, 3, 3)},
)
class SqueezeExciteLinear(nn.Module):
    """Squeeze and excite written with mean, linear layers, indexing with None and expand_as."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = conv(3, 8), conv(8, 5)
        self.squeeze, self.excite = nn.Linear(8, 4), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        scale = self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3))))).sigmoid()
        return self.c(x * scale[:, :, None, None].expand_as(x))


@case(X, kill={"a.0": (0, 1), "b.0": (1, 2)}, kept={"a.0.weight": (7, 3, 3, 3), "c.weight": (5, 7, 1, 1)})
class StackSumOfConstants(nn.Module):
    """Stacked constants are summed: two channels that are constants make one that is."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = block(3, 8), block(3, 8), conv(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.sum(torch.stack((self.a(x), self.b(x))), 0))
