"""Hold the FLOP accounting against SWAT's published reductions, and print the table of docs/flops.md.

    python tools/swat_flops.py

Published numbers are those of the authors' README and of the NeurIPS 2020 poster (arXiv 2001.01969).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from bench_networks import wide_resnet
from torch import nn
from torchvision.models import densenet121, resnet50, vgg16_bn, wide_resnet50_2

from campfire_fx.cost import Work, count_flops, swat_densities, work_of


@dataclass(frozen=True, slots=True)
class Row:
    """One published row: reductions in percent, None where none is printed."""

    network: str
    method: str
    sparsity: float
    training: float
    inference: float | None = None


def cifar_vgg16() -> nn.Module:
    """VGG-16 with norms as usual for images of 32 pixels: one linear layer, of 512 inputs."""
    return nn.Sequential(vgg16_bn().features, nn.Flatten(), nn.Linear(512, 10))


def cifar_densenet121() -> nn.Module:
    """DenseNet-121 as usual for images of 32 pixels: a 3x3 stem of stride 1, and no pooling after it."""
    network = densenet121(num_classes=10)
    network.features.conv0, network.features.pool0 = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return network


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {  # and the side of the images
    "ResNet-50": (resnet50, 224),
    "WRN-50-2": (wide_resnet50_2, 224),
    "WRN-16-8": (partial(wide_resnet, 16, 8), 32),
    "VGG-16": (cifar_vgg16, 32),
    "DenseNet-121": (cifar_densenet121, 32),
}

PUBLISHED = (
    Row("ResNet-50", "swat-structured", 0.5, 47.6, 48.6),
    Row("ResNet-50", "swat-structured", 0.6, 57.1, 58.3),
    Row("ResNet-50", "swat-structured", 0.7, 66.6, 68.0),
    Row("ResNet-50", "swat-u", 0.8, 76.1, 77.7),
    Row("ResNet-50", "swat-u", 0.9, 85.6, 87.4),
    Row("ResNet-50", "swat-erk", 0.8, 60.0, 58.9),
    Row("ResNet-50", "swat-erk", 0.9, 79.0, 77.8),
    Row("WRN-50-2", "swat-structured", 0.5, 49.1),
    Row("WRN-50-2", "swat-structured", 0.6, 58.9),
    Row("WRN-50-2", "swat-structured", 0.7, 68.7),
    Row("WRN-50-2", "swat-u", 0.8, 78.6),
    Row("WRN-50-2", "swat-u", 0.9, 88.4),
    Row("WRN-16-8", "swat-u", 0.9, 90.0),
    Row("WRN-16-8", "swat-erk", 0.95, 91.4),
    Row("DenseNet-121", "swat-u", 0.9, 89.8),
    Row("DenseNet-121", "swat-erk", 0.9, 89.7),
    Row("VGG-16", "swat-u", 0.9, 89.7),
    Row("VGG-16", "swat-erk", 0.95, 89.5),
)

OVERHEAD = {"ResNet-50": 0.021, "WRN-50-2": 0.0078}
"""Dense work outside the layers, fitted: the middle of `fitting_overheads`, to two digits. Not a published number."""

HEADER = (
    "| network | method | sparsity | inference: published | computed | training: published | layers alone | fitted |"
)


def main() -> None:
    """Print published and computed reductions side by side, and which overheads fit."""
    torch.manual_seed(0)
    work = {name: work_of(make(), (torch.zeros(1, 3, side, side),)) for name, (make, side) in NETWORKS.items()}
    print(HEADER)
    print("|---|---|---|---|---|---|---|---|")
    for row in PUBLISHED:
        inference, plain = reductions(work[row.network], row)
        overhead = OVERHEAD.get(row.network)
        fitted = "-" if overhead is None else f"{reductions(work[row.network], row, overhead)[1]:.1f}"
        printed = "-" if row.inference is None else f"{row.inference:.1f}"
        print(
            f"| {row.network} | {row.method} | {row.sparsity:.0%} | {printed} | {inference:.1f} | {row.training:.1f} "
            f"| {plain:.1f} | {fitted} |"
        )
    for name in OVERHEAD:
        low, high = fitting_overheads(work[name], (row for row in PUBLISHED if row.network == name))
        told = f"{name}: overheads from {100 * low:.2f} to {100 * high:.2f} % of the dense training MACs fit every row"
        print(f"{told} of U and structured: {_giga(work[name], low)} to {_giga(work[name], high)} GMAC an image.")


def reductions(work: Work, row: Row, dense_overhead: float = 0.0) -> tuple[float, float]:
    """Return the reductions of inference and of training, in percent."""
    densities = swat_densities(row.method, row.sparsity, work.layers)
    flops = count_flops(work, densities, dense_overhead=dense_overhead)
    return 100 * flops.inference_reduction, 100 * flops.training_reduction


def fitting_overheads(work: Work, rows: Iterable[Row]) -> tuple[float, float]:
    """Return the range of `dense_overhead` with which every row's training reduction rounds to the digit printed.

    An overhead d divides the reduction of the layers alone by 1 + d. ERK's rows are left out: they do not fit.
    """
    low, high = 0.0, float("inf")
    for row in rows:
        if row.method != "swat-erk":
            plain = reductions(work, row)[1]
            low = max(low, plain / (row.training + 0.05) - 1)
            high = min(high, plain / (row.training - 0.05) - 1)
    return low, high


def _giga(work: Work, overhead: float) -> str:
    return f"{3 * work.macs * overhead / 1e9:.3f}"


if __name__ == "__main__":
    main()
