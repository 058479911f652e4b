"""What goes in and out: several inputs, nested outputs, outputs on the way, parts that only train, assertions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import block, case, conv, named

X = (2, 3, 8, 8)


@case(
    X,
    (2, 2, 8, 8),
    kill={"a": (0, 1), "b": (1, 2)},
    kept={"a.weight": (7, 3, 3, 3), "b.weight": (7, 2, 1, 1), "c.weight": (5, 7, 3, 3)},
)
class TwoInputs(nn.Module):
    """Two inputs with layers of their own, added."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(2, 8, 1), conv(8, 5)

    def forward(self, image: Tensor, depth: Tensor) -> Tensor:
        return self.c(F.relu(self.a(image) + self.b(depth)))


@case(
    X,
    kill={"a": (0, 1), "b": (2,), "c": (0,)},
    kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 6, 1, 1), "c.weight": (4, 6, 1, 1)},
)
class NestedOutputs(nn.Module):
    """A dictionary of tuples comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 5, 1), conv(8, 4, 1)

    def forward(self, x: Tensor) -> dict[str, object]:
        x = self.a(x)
        return {"both": (self.b(x), [self.c(x)]), "mean": self.b(x).mean((2, 3)), "nothing": None}


@case(
    X,
    kill={"a": (0, 1), "b": (2, 3)},
    kept={"a.weight": (8, 3, 3, 3), "b.weight": (4, 8, 3, 3), "c.weight": (5, 4, 1, 1)},
)
class OutputOnTheWay(nn.Module):
    """A tensor on the way is also an output: its channels stay, dead or not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 6), conv(6, 5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.a(x)
        return features, self.c(F.relu(self.b(features)))


@case(X, kill={"b": (0, 1)}, unread={"b": (6, 7)}, kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 6, 1, 1)})
def DeadOutputs() -> nn.Module:
    """Two outputs of the model are constants: they stay outputs."""
    return named(a=conv(3, 8), act=nn.ReLU(), b=conv(8, 5, 1, bias=True))


@case(X, unread={"b": (4, 5, 6, 7)}, kept={"b.weight": (3, 4, 1, 1), "a.weight": (4, 3, 3, 3)})
class InputToOutput(nn.Module):
    """A residual sum from the model's input to its output (denoisers): nothing on it can go."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 3, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(F.relu(self.a(x)))


@case(X, kill={"a": (0, 1)}, kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 6, 3, 3), "aux.weight": None})
class AuxiliaryHead(nn.Module):
    """A second head that only training has, and a tuple that only training returns."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.aux = conv(3, 8), conv(8, 5), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = F.relu(self.a(x))
        if self.training:
            return self.b(x), self.aux(x)
        return self.b(x)


@case(X, kill={"a": (0, 1)}, kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 6, 3, 3)})
class Assertions(nn.Module):
    """Assertions on shapes, in Python and in torch, with f-strings, and a branch on a size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        torch._assert(x.shape[1] == 3, f"three channels, not {x.shape[1]}")
        assert x.ndim == 4, f"four dimensions, not {len(x.shape)}"
        x = self.a(x)
        torch._assert(x.dim() == 4, "four dimensions")
        if x.shape[-1] < 4:
            return self.b(F.interpolate(x, scale_factor=2.0))
        return self.b(x)


@case(
    X,
    kill={"a": (0, 1)},
    kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 6, 3, 3), "unused.weight": None, "never.weight": None},
)
class UnusedBranch(nn.Module):
    """A layer whose output nobody uses, and one that nobody calls."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.unused, self.never = conv(3, 8), conv(8, 5), conv(8, 4), conv(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        self.unused(x)
        return self.b(x)


@case((3, 8, 8), other=((3, 11, 9),), kill={"a": (0, 1)}, kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 6, 3, 3)})
def Unbatched() -> nn.Module:
    """One image without a batch dimension."""
    return named(a=conv(3, 8), act=nn.ReLU(), b=conv(8, 5))


@case(
    (1, 1, 3, 3),
    other=((2, 1, 7, 7),),
    kill={"a.0": (0, 1), "b": (7,)},
    kept={"a.0.weight": (7, 1, 3, 3), "b.weight": (7, 1, 3, 3), "c.weight": (5, 7, 1, 1)},
)
def OnePixelOut() -> nn.Module:
    """At the example's size each channel is one number, and one number is always uniform: at others it is not."""
    return named(a=block(1, 8, padding=0), b=conv(8, 8, groups=8), c=conv(8, 5, 1))


@case(
    X,
    kill={"layers.0": (0, 1), "layers.1": (2,), "heads.left": (0,)},
    kept={"layers.0.weight": (6, 3, 3, 3), "layers.1.weight": (7, 6, 3, 3), "heads.left.weight": (4, 7, 1, 1)},
)
class Containers(nn.Module):
    """Layers in lists and dictionaries, called in loops; the outputs in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([conv(3, 8), conv(8, 8)])
        self.heads = nn.ModuleDict({"left": conv(8, 4, 1), "right": conv(8, 4, 1)})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        for layer in self.layers:
            x = F.relu(layer(x))
        return {name: head(x) for name, head in self.heads.items()}


@case(X, kill={"a": (0, 1)}, kept={"a.weight": (6, 3, 3, 3), "fc.weight": (4, 6)})
class Interrogation(nn.Module):
    """Sizes, dtypes and devices asked for on the way, tensors made like others, casts."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = conv(3, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        steps = torch.arange(x.size(-1), device=x.device, dtype=x.dtype)
        x = x * (1 + steps / x.size(-1)) + torch.zeros_like(x) + x.new_ones(x.shape[-2:])
        return self.fc(x.to(x.dtype).mean(-1).mean(-1).type_as(x))


@case(
    X,
    (2, 8, 8),
    kill={"a": (0, 1)},
    kept={"a.weight": (6, 3, 3, 3), "c.weight": (5, 6, 3, 3)},
    other=((3, 3, 11, 11), (3, 11, 11)),
)
class MaskInput(nn.Module):
    """A second input without a channel axis multiplies all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = conv(3, 8), conv(8, 5)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.c(self.a(x) * mask.unsqueeze(1))


@case(X, kill={"a": (0, 1)}, kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 6, 3, 3)})
class OptionalInput(nn.Module):
    """An input that is not given, an option with a default, and what depends on both."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.other = conv(3, 8), conv(8, 5), conv(2, 8)

    def forward(self, x: Tensor, other: Tensor | None = None, twice: bool = False) -> Tensor:
        x = self.a(x)
        if other is not None:
            x = x + self.other(other)
        return self.b(x + x if twice else F.relu(x))
