"""Random small networks: a list of steps, each an operation on earlier tensors, chosen by whole numbers.

Every list of steps is a valid network: numbers are taken modulo what is possible at that place, and what does not fit
(tensors of different width or size) is made to fit by a 1 x 1 convolution or by resizing. So Hypothesis can draw them
freely and cut a failing one down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDEST = 12
LARGEST = 20
Step = tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of a tensor when the network is made: its channels, its height and width at the example."""

    channels: int
    size: int


@dataclass(slots=True)
class Draft:
    """A network in the making: its layers, the program that calls them, and the tensors made so far."""

    layers: nn.ModuleList = field(default_factory=nn.ModuleList)
    program: list[tuple[Callable[..., Tensor], tuple[int, ...]]] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)

    def add(self, value: Value, call: Callable[..., Tensor], *operands: int) -> int:
        """Append one call; returns the number of its tensor."""
        self.values.append(value)
        self.program.append((call, operands))
        return len(self.values) - 1

    def layer(self, module: nn.Module, value: Value, operand: int) -> int:
        """Append one call of a new layer."""
        self.layers.append(module)
        return self.add(value, _Layer(len(self.layers) - 1), operand)

    def fitted(self, operand: int, like: Value) -> int:
        """Return a tensor made from another so that it has this width and size."""
        value = self.values[operand]
        if value.channels != like.channels:
            conv = nn.Conv2d(value.channels, like.channels, 1, bias=False)
            operand = self.layer(conv, Value(like.channels, value.size), operand)
        return self.resized(operand, like.size)

    def resized(self, operand: int, size: int) -> int:
        """Return a tensor made from another so that it has this size."""
        value = self.values[operand]
        if value.size == size:
            return operand
        return self.add(Value(value.channels, size), _resize_like, operand, self.like(size))

    def like(self, size: int) -> int:
        """Return a tensor that has this size."""
        return next(i for i, value in enumerate(self.values) if value.size == size)


@dataclass(frozen=True, slots=True)
class _Layer:
    number: int


def _resize_like(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")


class RandomNet(nn.Module):
    """The network that a list of steps describes.

    The last tensor, and every other that nobody reads, is an output.
    """

    def __init__(self, steps: list[Step], inputs: int = 1) -> None:
        super().__init__()
        self.steps, self.count = list(steps), inputs
        draft = Draft(values=[Value(3 - i, 8) for i in range(inputs)])
        for name, source, choice, width in steps:
            OPERATIONS[name](draft, source % len(draft.values), choice, width)
        read = {operand for _, operands in draft.program for operand in operands}
        ends = [i for i in range(inputs, len(draft.values)) if i not in read]
        heads = [
            draft.layer(nn.Conv2d(draft.values[i].channels, 4, 1), Value(4, draft.values[i].size), i) for i in ends
        ]
        self.layers, self.program = draft.layers, draft.program
        self.ends = heads

    def __repr__(self) -> str:
        return f"RandomNet({self.steps!r})"

    def example(self, batch: int = 2, size: int = 8, seed: int = 0) -> tuple[Tensor, ...]:
        """Return random inputs in float64."""
        generator = torch.Generator().manual_seed(seed)
        shapes = [(batch, 3 - i, size, size) for i in range(self.count)]
        return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.run(image)

    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Call the program."""
        values = list(inputs)
        for call, operands in self.program:
            chosen = [values[i] for i in operands]
            values.append(self.layers[call.number](*chosen) if isinstance(call, _Layer) else call(*chosen))
        return tuple(values[i] for i in self.ends)


class RandomPair(RandomNet):
    """The same with two inputs."""

    def __init__(self, steps: list[Step]) -> None:
        super().__init__(steps, 2)

    def __repr__(self) -> str:
        return f"RandomPair({self.steps!r})"

    def forward(self, image: Tensor, depth: Tensor) -> tuple[Tensor, ...]:
        return self.run(image, depth)


def _conv(draft: Draft, source: int, choice: int, width: int) -> None:
    value, outputs = draft.values[source], 2 + width % (WIDEST - 1)
    kernel, dilation = (1, 3, 3)[choice % 3], 1 + choice // 3 % 2
    stride = 2 if choice % 4 == 3 and value.size >= 6 else 1
    mode = ("zeros", "zeros", "circular", "replicate")[choice % 4 if value.size > 3 else 0]
    pad = 0 if choice % 5 == 0 and value.size > 6 else dilation * (kernel // 2)
    size = (value.size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
    conv = nn.Conv2d(value.channels, outputs, kernel, stride, pad, dilation, padding_mode=mode, bias=bool(choice % 2))
    draft.layer(conv, Value(outputs, size), source)


def _grouped(draft: Draft, source: int, choice: int, width: int) -> None:
    channels = draft.values[source].channels
    groups = max(g for g in range(1, min(channels, 2 + choice % 3) + 1) if channels % g == 0)
    conv = nn.Conv2d(channels, groups * (1 + width % 4), 3, padding=1, groups=groups, bias=bool(choice % 2))
    draft.layer(conv, Value(conv.out_channels, draft.values[source].size), source)


def _depthwise(draft: Draft, source: int, choice: int, width: int) -> None:
    channels, size = draft.values[source].channels, draft.values[source].size
    outputs = channels * (2 if choice % 3 == 2 and 2 * channels <= WIDEST else 1)
    draft.layer(
        nn.Conv2d(channels, outputs, 3, padding=1, groups=channels, bias=bool(width % 2)), Value(outputs, size), source
    )


def _transposed(draft: Draft, source: int, choice: int, width: int) -> None:
    value = draft.values[source]
    if value.size * 2 > LARGEST:
        _conv(draft, source, choice, width)
        return
    groups = 2 if choice % 2 and value.channels % 2 == 0 else 1
    outputs = groups * (1 + width % 5)
    up = nn.ConvTranspose2d(value.channels, outputs, 4, 2, 1, groups=groups, bias=bool(choice // 2 % 2))
    draft.layer(up, Value(outputs, value.size * 2), source)


def _norm(draft: Draft, source: int, choice: int, width: int) -> None:
    channels = draft.values[source].channels
    norm: nn.Module = nn.BatchNorm2d(channels, affine=choice % 4 != 0)
    if choice % 8 in (5, 6, 7):
        most = 1 if choice % 8 == 7 else 2 + width % 5
        groups = max(g for g in range(1, min(channels, most) + 1) if channels % g == 0)
        norm = nn.GroupNorm(groups, channels, affine=bool(choice % 3))
    draft.layer(norm, draft.values[source], source)


def _activation(draft: Draft, source: int, choice: int, width: int) -> None:
    channels = draft.values[source].channels
    kinds = (nn.ReLU(), nn.Hardswish(), nn.Sigmoid(), nn.PReLU(channels), nn.PReLU(), nn.GELU(), nn.Dropout(0.3),
             nn.ReLU(inplace=True))  # fmt: skip
    draft.layer(kinds[choice % len(kinds)], draft.values[source], source)


def _pool(draft: Draft, source: int, choice: int, width: int) -> None:
    value = draft.values[source]
    small = Value(value.channels, (value.size - 1) // 2 + 1)
    if value.size < 4:
        _activation(draft, source, choice, width)
        return
    kinds: tuple[tuple[nn.Module, Value], ...] = (
        (nn.MaxPool2d(3, 2, 1), small),
        (nn.AvgPool2d(3, 2, 1), small),
        (nn.AvgPool2d(3, 2, 1, count_include_pad=False), small),
        (nn.AvgPool2d(2), Value(value.channels, value.size // 2)),
        (nn.MaxPool2d(2), Value(value.channels, value.size // 2)),
    )
    draft.layer(*kinds[choice % len(kinds)], source)


def _second(draft: Draft, source: int, choice: int) -> int:
    return draft.fitted(choice % len(draft.values), draft.values[source])


def _add(draft: Draft, source: int, choice: int, width: int) -> None:
    call = (torch.add, torch.sub, torch.maximum, _add_slices)[width % 4]
    if call is _add_slices and draft.values[source].channels % 2 == 0:
        draft.add(Value(draft.values[source].channels // 2, draft.values[source].size), call, source)
    else:
        call = torch.add if call is _add_slices else call
        draft.add(draft.values[source], call, source, _second(draft, source, choice))


def _add_slices(x: Tensor) -> Tensor:
    half = x.shape[1] // 2
    return x[:, :half] + x[:, half:]


def _multiply(draft: Draft, source: int, choice: int, width: int) -> None:
    draft.add(draft.values[source], _gate, source, _second(draft, source, choice))


def _gate(x: Tensor, y: Tensor) -> Tensor:
    return x * torch.sigmoid(y)


def _concatenate(draft: Draft, source: int, choice: int, width: int) -> None:
    other = draft.resized(choice % len(draft.values), draft.values[source].size)
    channels = draft.values[source].channels + draft.values[other].channels
    if channels > 2 * WIDEST:
        _add(draft, source, choice, 0)
        return
    draft.add(Value(channels, draft.values[source].size), _cat, source, other)


def _cat(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat((x, y), 1)


def _move(draft: Draft, source: int, choice: int, width: int) -> None:
    value = draft.values[source]
    if value.channels % 2:
        kinds: tuple[Any, ...] = (_roll, _pad_channels)
    elif value.channels % 4 == 0 and width % 2 and value.size * 2 <= LARGEST:
        kinds = (_pixel_shuffle,)
    else:
        kinds = (_shuffle, _swap, _every_second, _roll, _pad_channels)
    call = kinds[choice % len(kinds)]
    widths = {
        _every_second: value.channels // 2,
        _pad_channels: value.channels + 2,
        _pixel_shuffle: value.channels // 4,
    }
    size = value.size * 2 if call is _pixel_shuffle else value.size
    draft.add(Value(widths.get(call, value.channels), size), call, source)


def _shuffle(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def _swap(x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return torch.cat((second, first), 1)


def _every_second(x: Tensor) -> Tensor:
    return x[:, ::2]


def _roll(x: Tensor) -> Tensor:
    return torch.roll(x, 1, 1)


def _pad_channels(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 0, 0, 1, 1))


def _pixel_shuffle(x: Tensor) -> Tensor:
    return F.pixel_shuffle(x, 2)


def _excite(draft: Draft, source: int, choice: int, width: int) -> None:
    value, inner = draft.values[source], 1 + width % 4
    pooled = draft.add(Value(value.channels, 1), _mean, source)
    squeezed = draft.layer(nn.Conv2d(value.channels, inner, 1), Value(inner, 1), pooled)
    active = draft.layer(nn.ReLU(), Value(inner, 1), squeezed)
    excited = draft.layer(nn.Conv2d(inner, value.channels, 1), Value(value.channels, 1), active)
    draft.add(value, _gate, source, excited)


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


def _again(draft: Draft, source: int, choice: int, width: int) -> None:
    """Call an earlier layer once more, on a tensor made to fit."""
    calls = [(call, operands[0]) for call, operands in draft.program if isinstance(call, _Layer)]
    if not calls:
        _conv(draft, source, choice, width)
        return
    call, before = calls[choice % len(calls)]
    place = draft.program.index((call, (before,)))
    fitted = draft.fitted(source, draft.values[before])
    draft.add(draft.values[len(draft.values) - len(draft.program) + place], call, fitted)


OPERATIONS: dict[str, Callable[[Draft, int, int, int], None]] = {
    "conv": _conv, "grouped": _grouped, "depthwise": _depthwise, "transposed": _transposed, "norm": _norm,
    "activation": _activation, "pool": _pool, "add": _add, "multiply": _multiply, "concatenate": _concatenate,
    "move": _move, "excite": _excite, "again": _again,
}  # fmt: skip
