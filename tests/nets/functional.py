"""Layers without modules: functions on parameters, products with matrices, training flags passed along."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import block, case, conv

X = (2, 3, 8, 8)


@case(
    X,
    kill={"weight": (0, 1)},
    kept={"weight": (6, 3, 3, 3), "bias": (6,), "scale": (6,), "mean": (6,), "var": (6,), "fc": (4, 6)},
)
class FunctionalLayers(nn.Module):
    """A convolution, a norm and a linear layer called as functions on bare parameters and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(8, 3, 3, 3)), nn.Parameter(torch.randn(8))
        self.scale, self.shift = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
        self.register_buffer("mean", torch.randn(8))
        self.register_buffer("var", torch.rand(8) + 0.5)
        self.fc, self.fc_bias = nn.Parameter(torch.randn(4, 8)), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, self.bias, stride=2, padding=1)
        x = F.batch_norm(x, self.mean, self.var, self.scale, self.shift, self.training, 0.1, 1e-3)
        return F.linear(F.relu(x).mean((2, 3)), self.fc, self.fc_bias)


@case(
    X,
    kill={"a": (0, 5), "mix": (2, 3)},
    kept={"a.weight": (6, 3, 3, 3), "mix": (4, 3, 3, 3), "up": (4, 5, 2, 2)},
)
class FunctionalGrouped(nn.Module):
    """A grouped and a transposed convolution called as functions, their options by position."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.mix = conv(3, 8), nn.Parameter(torch.randn(6, 4, 3, 3))
        self.up = nn.Parameter(torch.randn(6, 5, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(F.relu(self.a(x)), self.mix, None, 1, 1, 1, 2)
        return F.conv_transpose2d(x, self.up, None, 2)


@case(X, kill={"a.0": (0, 1)}, kept={"a.0.weight": (6, 3, 3, 3), "weight": (6, 4)}, other=((3, 3, 9, 7),))
class MatrixProduct(nn.Module):
    """A classifier written as a product with a matrix and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.weight, self.bias = block(3, 8), nn.Parameter(torch.randn(8, 4)), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x).mean((2, 3)) @ self.weight + self.bias


@case(X, kill={"a.0": (0, 1)}, kept={"a.0.weight": (6, 3, 3, 3), "weight": (6, 4)})
class AddProduct(nn.Module):
    """A classifier written as torch.addmm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.weight, self.bias = block(3, 8), nn.Parameter(torch.randn(8, 4)), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, self.a(x).amax((2, 3)), self.weight)


@case(X, kill={"a": (0, 1)}, kept={"a.weight": (6, 3, 3, 3), "slope": (6,), "b.weight": (5, 6, 1, 1)})
class FunctionalSlope(nn.Module):
    """A PReLU called as a function on a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.slope = conv(3, 8), conv(8, 5, 1), nn.Parameter(torch.full((8,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.prelu(self.a(x), self.slope))


@case(X, kill={"a.0": (0, 1)}, kept={"a.0.weight": (6, 3, 3, 3), "fc.weight": (4, 6)})
class FunctionalDropout(nn.Module):
    """Dropout as a function that is told whether the model is training."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = block(3, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout2d(self.a(x), 0.2, training=self.training)
        return self.fc(F.dropout(x.mean((2, 3)), p=0.5, training=self.training))


@case(X, kill={"a": (0, 1), "b": (2,)}, kept={"c.weight": (4, 4, 1, 1)}, pins=("",))
class ComputedWeight(nn.Module):
    """A weight that is made from two parameters: it pins what it reads and makes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 5), conv(5, 4, 1)
        self.left, self.right = nn.Parameter(torch.randn(8, 2)), nn.Parameter(torch.randn(2, 8))

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.left @ self.right)[:, :, None, None]
        return self.c(self.b(F.conv2d(self.a(x), weight)))


@case(
    X,
    kill={"a": (0, 1)},
    kept={"a.weight": (6, 3, 3, 3), "weight": (6,), "running_var": (6,), "b.weight": (5, 6, 1, 1)},
)
class FrozenNorm(nn.Module):
    """A norm frozen into buffers and written with reshapes and arithmetic, as detectors have it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 5, 1)
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(8) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.reshape(1, -1, 1, 1) * (self.running_var.reshape(1, -1, 1, 1) + 1e-5).rsqrt()
        x = self.a(x) * scale + (self.bias.reshape(1, -1, 1, 1) - self.running_mean.reshape(1, -1, 1, 1) * scale)
        return self.b(F.relu(x))
