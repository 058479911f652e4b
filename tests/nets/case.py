"""A case: one small network with one hazard, the filters that die in it, and what must come out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tests.random_zeros import random_zeros, randomise, zero_filters

Shape = tuple[int, ...]
Build = TypeVar("Build", bound=Callable[[], nn.Module])
SAME_STEP = object()


@dataclass(frozen=True, slots=True)
class Case:
    """One small network with one hazard.

    Attributes:
        name, hazard: what it is called, and what is hard about it.
        build: makes it, with torch's own random weights.
        inputs: shapes of its positional inputs.
        other: shapes at another batch and image size; None where the network itself takes no other.
        kill: layer (or parameter) -> its filters that are set to zero.
        unread: layer -> its input channels whose kernels are set to zero.
        damage: anything else to be done to it.
        kept: name in the state_dict -> its shape after a union shrink, None for gone. Derived by hand.
        made: names among them that only the shrink makes: biases to fold into, weights that were computed.
        pins: words that the reasons of the plan's pins must contain, one pin each.
        smaller: it must have fewer parameters than before.
        positive: dead channels of norms are constants that no ReLU makes zero.
    """

    name: str
    hazard: str
    build: Callable[[], nn.Module]
    inputs: tuple[Shape, ...]
    other: tuple[Shape, ...] | None
    kill: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    unread: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    damage: Callable[[Any], None] | None = None
    kept: Mapping[str, Shape | None] = field(default_factory=dict)
    made: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    smaller: bool = True
    positive: bool = True

    def __str__(self) -> str:
        return self.name

    def model(self, seed: int = 0) -> nn.Module:
        """Return the network in float64 with random statistics and exactly the zeros of this case."""
        torch.manual_seed(seed)
        net = randomise(self.build().double(), seed, positive=self.positive)
        with torch.no_grad():
            if self.damage is not None:
                self.damage(net)
            for path, dead in self.kill.items():
                owner, _, name = path.rpartition(".")
                found = getattr(net.get_submodule(owner), name)
                if isinstance(found, nn.Parameter):
                    found[list(dead)] = 0
                else:
                    zero_filters(found, dead)
            for path, dead in self.unread.items():
                net.get_submodule(path).weight[:, list(dead)] = 0
        return net

    def wild(self, seed: int = 0) -> nn.Module:
        """Return the network in float64 with random statistics and random zeros instead."""
        torch.manual_seed(seed)
        return random_zeros(randomise(self.build().double(), seed), seed, linears=True)

    def example(self, seed: int = 0) -> tuple[Tensor, ...]:
        """Return random inputs."""
        return _random(self.inputs, seed)

    def another(self, seed: int = 1) -> tuple[Tensor, ...] | None:
        """Return random inputs of another batch and image size, or None."""
        return None if self.other is None else _random(self.other, seed)

    def snippet(self, residual: str, seed: int = 0, how: str = "model") -> str:
        """Return code that shows what a test saw."""
        return (
            "from campfire_fx import shrink\nfrom tests.nets import CASES\n"
            f"case = CASES[{self.name!r}]\nmodel, inputs = case.{how}({seed}), case.example()\n"
            f"slim = shrink(model, inputs, residual={residual!r}, verify=False)\nprint(slim.plan)"
        )


def _random(shapes: tuple[Shape, ...], seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


CASES: dict[str, Case] = {}


def case(*inputs: Shape, other: Any = SAME_STEP, **facts: Any) -> Callable[[Build], Build]:
    """Enter a network (a class, or a function that makes it) as a case; its docstring says what the hazard is.

    Without `other`, it is also tried with one more in the batch and images three pixels larger each way.
    """

    def enter(build: Build) -> Build:
        doc = build.__doc__
        assert doc and build.__name__ not in CASES, f"{build.__name__}: needs a docstring and a name of its own"
        step = tuple(_larger(shape) for shape in inputs) if other is SAME_STEP else other
        CASES[build.__name__] = Case(build.__name__, doc.strip(), build, inputs, step, **facts)
        return build

    return enter


def _larger(shape: Shape) -> Shape:
    return (shape[0] + 1, *shape[1:2], *(size + 3 for size in shape[2:]))


def conv(inputs: int, outputs: int, size: int = 3, **options: Any) -> nn.Conv2d:
    """Return a convolution that keeps the image size, without bias: a dead filter of it is zero."""
    return nn.Conv2d(inputs, outputs, size, **{"padding": size // 2, "bias": False, **options})


def block(inputs: int, outputs: int, size: int = 3, **options: Any) -> nn.Sequential:
    """Return convolution ("0"), BatchNorm, ReLU: a dead filter of it is a positive constant."""
    return nn.Sequential(conv(inputs, outputs, size, **options), nn.BatchNorm2d(outputs), nn.ReLU())


def named(**layers: nn.Module) -> nn.Sequential:
    """Return layers in a row, each under a name."""
    return nn.Sequential(OrderedDict(layers))


def zero(tensor: Tensor, *rows: int) -> None:
    """Set some rows of a tensor to zero."""
    tensor[list(rows)] = 0
