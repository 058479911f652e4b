"""Time convolutions whose columns are pruned, layer by layer: as they are, and shrunk with `columns=True`.

    python tools/bench_columns.py                                   # all of it: one thread, one image
    python tools/bench_columns.py --networks caffenet --compressions 15 --threads 2
    python tools/bench_columns.py --device cuda --batch 32 --dtype float16
    python tools/bench_columns.py --quick                           # small layers, to see that it runs

A column is a pair of an input channel and a tap (a position in the kernel); it is pruned in all filters. `scattered`
prunes columns at random, as StructADMM's shape-wise pruning leaves them, so that the live ones are gathered where
that is faster; `1x3`, `2x2` and `1x1` keep these taps of a 3x3 kernel alone, so that the kernel is cropped. The
paper (arXiv 1807.11091) gives its compression for all convolutions together; here every layer is pruned alike.

Every time is the median of rounds in turns, in one run. The row `together` adds up the layers, each as often as the
network has it. `dense` is torch's convolution, which takes as long with zeros in it; the speed-up is against it.
`im2col` is the same as Caffe computes it, which is what the paper compared with.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from rounds import Contender, in_turns
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from campfire_fx import SlimModel, shrink  # noqa: E402


@dataclass(frozen=True)
class Layer:
    """One convolution: channels, image size it reads, kernel, stride, groups; how often its network has it."""

    name: str
    inputs: int
    outputs: int
    image: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    times: int = 1

    def build(self) -> nn.Conv2d:
        """Return it, with torch's random weights and padding that keeps the image size."""
        options: dict[str, Any] = {"stride": self.stride, "padding": self.kernel // 2, "groups": self.groups}
        return nn.Conv2d(self.inputs, self.outputs, self.kernel, **options)


NETWORKS = {
    "caffenet": (  # AlexNet in two groups, which the paper prunes
        Layer("conv2", 96, 256, 27, 5, groups=2),
        Layer("conv3", 256, 384, 13),
        Layer("conv4", 384, 384, 13, groups=2),
        Layer("conv5", 384, 256, 13, groups=2),
    ),
    "alexnet": (  # as torchvision has it
        Layer("conv2", 64, 192, 27, 5),
        Layer("conv3", 192, 384, 13),
        Layer("conv4", 384, 256, 13),
        Layer("conv5", 256, 256, 13),
    ),
    "resnet50": (  # its 3x3 layers
        Layer("layer1", 64, 64, 56, times=3),
        Layer("layer2.0", 128, 128, 56, stride=2),
        Layer("layer2", 128, 128, 28, times=3),
        Layer("layer3.0", 256, 256, 28, stride=2),
        Layer("layer3", 256, 256, 14, times=5),
        Layer("layer4.0", 512, 512, 14, stride=2),
        Layer("layer4", 512, 512, 7, times=2),
    ),
    "small": (Layer("plain", 16, 32, 12), Layer("grouped", 16, 32, 12, groups=2, stride=2)),
}
TAPS = {"1x3": (slice(1, 2), slice(0, 3)), "2x2": (slice(0, 2), slice(0, 2)), "1x1": (slice(1, 2), slice(1, 2))}


def main() -> int:
    """Print a table for every network."""
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    console = Console()
    for network in options.networks:
        console.print(timed(network, options))
    return 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [name for name in NETWORKS if name != "small"]
    parser.add_argument("--networks", nargs="+", choices=known, default=known)
    parser.add_argument("--compressions", nargs="+", type=float, default=[2, 4, 15], help="columns over live columns")
    parser.add_argument("--taps", nargs="*", choices=list(TAPS), default=list(TAPS), help="3x3 kernels left with these")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=11, help="rounds")
    parser.add_argument("--calls", type=int, default=5, help="calls that are timed together in a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--quick", action="store_true", help="small layers, few rounds")
    options = parser.parse_args()
    if any(compression <= 1 for compression in options.compressions):
        parser.error("a compression is more than 1: the columns of a layer over those that are left")
    if options.quick:
        options.networks, options.repeats, options.calls = ["small"], 2, 1
    return options


def timed(network: str, options: argparse.Namespace) -> Table:
    """Time every layer of a network, all its patterns in turns."""
    where = f"{options.threads} thread(s)" if options.device == "cpu" else options.device
    table = Table(title=f"{network}: batch {options.batch}, {options.dtype}, {where}; median milliseconds of a call")
    for name in ("layer", "pruned", "compression", "im2col", "dense", "slim", "speed-up", "what was done"):
        left = name in ("layer", "pruned", "what was done")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    totals: dict[str, list[tuple[float, float, float]]] = {}
    for layer in NETWORKS[network]:
        shape = (options.batch, layer.inputs, layer.image, layer.image)
        x = torch.randn(shape, device=options.device, dtype=getattr(torch, options.dtype))
        slims = {name: slimmed(layer, prune, x) for name, prune in patterns(layer, options).items()}
        dense = layer.build().to(x)
        models = {"im2col": Unfolded(dense), "dense": dense, **{name: slim for name, (slim, _) in slims.items()}}
        times = race(models, x, options)
        for name, (slim, compression) in slims.items():
            row = (times["im2col"], times["dense"], times[name])
            table.add_row(layer.name, name, f"{compression:.1f}x", *cells(row), done(slim))
            totals.setdefault(name, []).append(tuple(layer.times * value for value in row))  # type: ignore[arg-type]
        table.add_section()
    for name, rows in totals.items():
        if len(rows) == len(NETWORKS[network]):
            table.add_row(
                "together", name, "", *cells([sum(column) for column in zip(*rows, strict=True)]), "all layers"
            )
    return table


def cells(row: Sequence[float]) -> list[str]:
    """Return the times as text, and the ratio of the last two."""
    return [*(f"{value:.3f}" for value in row), f"{row[-2] / row[-1]:.2f}x"]


class Unfolded(nn.Module):
    """A dense convolution as Caffe computes it, which the paper timed: im2col, then one product of matrices."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv, self.weight = conv, nn.Parameter(conv.weight.detach().view(conv.groups, -1, conv.weight[0].numel()))

    def forward(self, x: Tensor) -> Tensor:
        conv: Any = self.conv
        columns = F.unfold(x, conv.kernel_size, padding=conv.padding, stride=conv.stride)
        product = self.weight @ columns.unflatten(1, (conv.groups, -1))
        return product.flatten(1, 2) + conv.bias.view(-1, 1)


Prune = Callable[[Tensor], Tensor]
"""From a weight (K, C/groups, R, S) to a mask of its columns (C/groups, R, S): True stays."""


def patterns(layer: Layer, options: argparse.Namespace) -> dict[str, Prune]:
    """Return the ways to prune a layer, by name."""

    def scattered(compression: float) -> Prune:
        def prune(weight: Tensor) -> Tensor:
            mask = torch.zeros(weight[0].numel(), dtype=torch.bool)
            mask[torch.randperm(mask.numel())[: max(1, round(mask.numel() / compression))]] = True
            return mask.view(weight.shape[1:])

        return prune

    def cropped(taps: tuple[slice, slice]) -> Prune:
        def prune(weight: Tensor) -> Tensor:
            mask = torch.zeros(weight.shape[1:], dtype=torch.bool)
            mask[:, taps[0], taps[1]] = True
            return mask

        return prune

    ways = {f"scattered {compression:g}": scattered(compression) for compression in options.compressions}
    return ways | ({name: cropped(TAPS[name]) for name in options.taps} if layer.kernel == 3 else {})


def slimmed(layer: Layer, prune: Prune, x: Tensor) -> tuple[SlimModel, float]:
    """Prune a layer, shrink it (with the proof), and return it with the compression of its columns."""
    model = nn.Sequential(layer.build())
    weight = model.get_parameter("0.weight")
    mask = prune(weight)
    with torch.no_grad():
        weight.mul_(mask)
    return shrink(model.to(x).eval(), x, columns=True), mask.numel() / int(mask.sum())


def race(models: dict[str, nn.Module], x: Tensor, options: argparse.Namespace) -> dict[str, float]:
    """Return the median milliseconds of a call of each."""

    def repeated(model: nn.Module) -> Contender:
        return Contender(lambda _: [model(x) for _ in range(options.calls)])

    gc.collect()
    gc.freeze()  # what is there now is not looked through again between rounds
    wait: dict[str, Any] = {"synchronise": torch.cuda.synchronize} if x.is_cuda else {}
    with torch.inference_mode():
        times = in_turns({name: repeated(model.eval()) for name, model in models.items()}, options.repeats, **wait)
    return {name: statistics.median(taken) * 1e3 / options.calls for name, taken in times.items()}


def done(slim: SlimModel) -> str:
    """Say what became of the layer."""
    words = [
        f"cropped to {'x'.join(map(str, kernel.after))}{', padded before' if kernel.padded else ''}"
        for kernel in slim.plan.kernels
    ]
    words += [
        f"{change.after} of {change.before} gathered" if change.after < change.before else "left dense"
        for change in slim.plan.columns
    ]
    return "; ".join(words)


if __name__ == "__main__":
    sys.exit(main())
