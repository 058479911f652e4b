"""Time convolutions whose weights are pruned: torch's, which multiply the zeros, and the kernels that skip them.

    python tools/bench_sparse.py                         # ResNet-50's 3x3 and 1x1 layers, one image, one thread
    python tools/bench_sparse.py --batch 16 --left 20
    python tools/bench_sparse.py --threads 1 2 --kernel 3
    python tools/bench_sparse.py --quick                 # a small layer, to see that it runs

`dense` is the faster of torch's two layouts, NCHW and channels_last. Every time is the median of rounds, in which all
run in turns, four calls each; with one thread it is the processor's time. GF/s counts two operations for each output
and weight that is not zero; `peak` is what the core does of them if it does nothing else, measured in the same run.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from sparse_patterns import PATTERNS, of_pixelwise
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from campfire_fx.base.timing import in_turns  # noqa: E402
from campfire_fx.kernels.convolve import convolve  # noqa: E402
from campfire_fx.kernels.packed import Geometry, Packed  # noqa: E402
from campfire_fx.kernels.ready import kernels  # noqa: E402
from campfire_fx.kernels.speed import peak  # noqa: E402

CALLS = 4  # timed together


@dataclass(frozen=True)
class Layer:
    """A convolution that keeps the image size."""

    inputs: int
    outputs: int
    image: int
    kernel: int

    def __str__(self) -> str:
        return f"{self.kernel}x{self.kernel} {self.inputs} -> {self.outputs}, {self.image} px"


RESNET50 = (
    *(Layer(width, width, image, 3) for width, image in ((64, 56), (128, 28), (256, 14), (512, 7))),
    *(Layer(width, 4 * width, image, 1) for width, image in ((64, 56), (128, 28), (256, 14), (512, 7))),
    *(Layer(4 * width, width, image, 1) for width, image in ((64, 56), (128, 28), (256, 14), (512, 7))),
)


def main() -> int:
    """Print a table for every number of threads."""
    options = parse()
    keep_memory()
    torch.manual_seed(0)
    console = Console(width=120)
    for threads in options.threads:
        torch.set_num_threads(threads)
        console.print(layers_table(options, threads))
    return 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--left", nargs="+", type=float, default=[30, 20, 10], help="percent of weights that are left")
    parser.add_argument("--patterns", nargs="+", choices=list(PATTERNS), default=list(PATTERNS))
    parser.add_argument("--kernel", type=int, choices=[1, 3], help="layers with this kernel alone")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--quick", action="store_true", help="one small layer, few rounds")
    options = parser.parse_args()
    options.layers = [layer for layer in RESNET50 if options.kernel in (None, layer.kernel)]
    if options.quick:
        options.layers, options.rounds, options.left = [Layer(16, 16, 12, 3)], 2, [20]
    return options


def keep_memory() -> None:
    """Have the C library keep memory that is given back, so that no contender pays for fresh pages."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
    mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD


def layers_table(options: argparse.Namespace, threads: int) -> Table:
    """Time every layer with every pattern."""
    best = peak(kernels().functions) / 1e9
    table = Table(title=f"batch {options.batch}, {threads} thread(s); peak of one core {best:.0f} GF/s")
    for name in ("layer", "pattern", "left", "dense ms", "sparse ms", "speed-up", "dense GF/s", "GF/s", "of peak"):
        table.add_column(name, justify="left" if name in ("layer", "pattern") else "right", no_wrap=True)
    for layer in options.layers:
        for row in layer_rows(layer, options, best * threads):
            table.add_row(*row)
        table.add_section()
    return table


def layer_rows(layer: Layer, options: argparse.Namespace, best: float) -> list[tuple[str, ...]]:
    """Time one layer with every pattern in turns."""
    x = torch.randn(options.batch, layer.inputs, layer.image, layer.image)
    weights = {
        (name, left): pruned(layer, name, left / 100)
        for name in options.patterns
        for left in options.left
        if layer.kernel > 1 or of_pixelwise(name)
    }
    runs = [*dense_runs(layer, x), *(sparse_run(layer, x, weight) for weight in weights.values())]
    first, second, *others = (taken * 1e3 for taken in race(runs, options.rounds))
    dense = min(first, second)
    rows: list[tuple[str, ...]] = []
    for (name, _), weight, took in zip(weights, weights.values(), others, strict=True):
        operations = 2 * int(weight.count_nonzero()) * x[:, 0].numel()
        share = float(weight.count_nonzero()) / weight.numel()
        whole, useful = operations / share / dense / 1e6, operations / took / 1e6
        times = (f"{100 * share:.0f} %", f"{dense:.3f}", f"{took:.3f}", f"{dense / took:.2f}x")
        rows.append((str(layer), name, *times, f"{whole:.0f}", f"{useful:.0f}", f"{100 * useful / best:.0f} %"))
    return rows


def pruned(layer: Layer, pattern: str, left: float) -> Tensor:
    """Return a random weight of which a share is left."""
    shape = (layer.outputs, layer.inputs, layer.kernel, layer.kernel)
    return torch.randn(shape) * PATTERNS[pattern](shape, left)


def dense_runs(layer: Layer, x: Tensor) -> list[Callable[[], object]]:
    """Return torch's convolution in both layouts."""
    weight = torch.randn(layer.outputs, layer.inputs, layer.kernel, layer.kernel)
    padding, last = layer.kernel // 2, torch.channels_last
    x_last, weight_last = x.contiguous(memory_format=last), weight.contiguous(memory_format=last)
    return [
        lambda: F.conv2d(x, weight, padding=padding),
        lambda: F.conv2d(x_last, weight_last, padding=padding),
    ]


def sparse_run(layer: Layer, x: Tensor, weight: Tensor) -> Callable[[], object]:
    """Return the convolution that skips zeros, compared with torch's."""
    padding = layer.kernel // 2
    packed, library = Packed.of(weight, Geometry(padding=(padding, padding))), kernels().functions
    expected = F.conv2d(x, weight, padding=padding)
    assert (convolve(library, x, packed) - expected).abs().max() <= 1e-4 * expected.abs().max()
    return lambda: convolve(library, x, packed)


def race(runs: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median seconds of a call of each."""

    def repeated(run: Callable[[], object]) -> Callable[[], None]:
        def calls() -> None:
            for _ in range(CALLS):
                run()

        return calls

    with torch.inference_mode():
        times = in_turns([repeated(run) for run in runs], torch.device("cpu"), least=rounds, most=rounds, warm=1)
    return [statistics.median(taken) / CALLS for taken in times]


if __name__ == "__main__":
    sys.exit(main())
