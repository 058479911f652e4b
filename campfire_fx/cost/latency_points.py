"""Times of layers over widths: which widths are tried, and how they are timed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, product, zip_longest

import torch
from torch import Tensor, nn

from campfire_fx.base.timing import in_turns
from campfire_fx.cost.latency_calls import LayerCall
from campfire_fx.cost.latency_record import padded

SHARES = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1)
"""Widths that are tried, as shares of the full one."""
_LANES = {"AVX512": 16, "AVX2": 8}  # float32 numbers in a vector
_WARM, _LEAST, _MOST, _ENOUGH = 1, 3, 7, 8.0  # rounds; seconds
_IN_A_ROUND = 400
"""Points at most: oneDNN keeps the code of its last 1024 operations, and each point needs about two."""
_LAUNCHES = 10  # on a GPU, between two waits: it works while Python prepares the next call, as within a network


@dataclass(frozen=True, slots=True)
class Point:
    """A layer's call at some widths."""

    call: LayerCall
    inputs: int
    outputs: int

    @property
    def key(self) -> str:
        """A text that is equal for points of equal time."""
        return f"{self.inputs}x{self.outputs} {self.call!r}"


def step_of(call: LayerCall, device: torch.device) -> int:
    """Return what a convolution's widths are padded to where it runs: the vectors of the CPU; 1: to nothing."""
    linear, depthwise = not call.settings, call.groups == call.inputs == call.outputs
    if (
        linear
        or (call.groups > 1 and not depthwise)
        or device.type != "cpu"
        or not torch.backends.mkldnn.is_available()
    ):
        return 1
    return _LANES.get(torch.backends.cpu.get_cpu_capability(), 1)


def widths(full: int, step: int = 1) -> tuple[int, ...]:
    """Return the widths to try, rising to the full one."""
    return tuple(sorted({int(padded(math.ceil(share * full), full, step)) for share in SHARES}))


def grid_of(call: LayerCall, step: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the inputs and outputs to try; where channels are in groups only the number of groups varies."""
    if call.groups == 1:
        return widths(call.inputs, step), widths(call.outputs, step)
    each = call.outputs // call.groups
    return (call.inputs,), tuple(each * groups for groups in widths(call.groups, step))


def points_of(calls: Mapping[LayerCall, int]) -> list[Point]:
    """Return all points of calls with their steps, in turn as layers follow in a network, about equally slim."""
    grids = [[Point(call, *at) for at in product(*grid_of(call, step))] for call, step in calls.items()]
    return [point for row in zip_longest(*grids) for point in row if point is not None]


@torch.no_grad()
def measure(
    points: Sequence[Point], others: Mapping[str, Callable[[], object]], device: torch.device
) -> dict[str, float]:
    """Time points, and other calls beside them, and return milliseconds by key: medians of rounds.

    What a layer reads was written just before, as in a network, and its weights were not read for a whole round.
    """
    memory = _Memory(points, device)
    found: dict[str, float] = {}
    remaining = iter(points)
    while (some := list(islice(remaining, _IN_A_ROUND))) or others:
        launches = _LAUNCHES if device.type == "cuda" else 1
        probes = list(chain.from_iterable(memory.probe(point, launches) for point in some))
        times = in_turns([*probes, *others.values()], device, least=_LEAST, most=_MOST, enough=_ENOUGH, warm=_WARM)
        medians = [1e3 * statistics.median(taken) for taken in times]
        found |= {point.key: ms / launches for point, ms in zip(some, medians[1 : len(probes) : 2], strict=True)}
        found |= dict(zip(others, medians[len(probes) :], strict=True))
        others = {}
    return found


class _Memory:
    """Makes layers and what they read as views of few tensors: one for the weights of each call, one for all inputs."""

    def __init__(self, points: Sequence[Point], device: torch.device) -> None:
        self._device = device
        self._weights: dict[LayerCall, Tensor] = {}
        sizes: dict[str, int] = {}
        for point in points:
            dtype, size = point.call.dtypes[1], math.prod(point.call.shape)
            sizes[dtype] = max(size, sizes.get(dtype, 0))
        self._read = {dtype: self._numbers(size, dtype) for dtype, size in sizes.items()}

    def _numbers(self, size: int, dtype: str) -> Tensor:
        return torch.randn(size, dtype=getattr(torch, dtype), device=self._device)

    def probe(self, point: Point, launches: int) -> Iterator[Callable[[], object]]:
        """Yield two calls: one writes what the layer reads, and one runs the layer."""
        layer, call = self._layer(point), point.call
        shape = call.narrowed(point.inputs, point.outputs)
        read = _viewed(self._read[call.dtypes[1]], shape, channels_last=call.channels_last[1])

        def run() -> None:
            for _ in range(launches):
                layer(read)

        yield lambda: read.mul_(1)
        yield run

    def _layer(self, point: Point) -> nn.Module:
        call, layer = point.call, point.call.layer(point.inputs, point.outputs)
        if call not in self._weights:
            full = sum(p.numel() for p in call.layer(call.inputs, call.outputs).parameters())
            self._weights[call] = self._numbers(full, call.dtypes[0])
        for name, parameter in list(layer.named_parameters()):
            view = _viewed(self._weights[call], tuple(parameter.shape), channels_last=call.channels_last[0])
            setattr(layer, name, nn.Parameter(view, requires_grad=False))
        return layer.eval()


def _viewed(memory: Tensor, shape: tuple[int, ...], *, channels_last: bool) -> Tensor:
    """Return the first numbers of a flat tensor in some shape."""
    part = memory[: math.prod(shape)]
    if not channels_last or len(shape) < 3:
        return part.view(shape)
    return part.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1)
