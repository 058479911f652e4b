"""Whole networks with zeros, accelerated here, against the fastest dense network of every runtime that is installed.

    python tools/bench_accelerate.py                                     # ResNet-18, ResNet-50, MobileNetV2
    python tools/bench_accelerate.py --networks resnet50 --patterns combined unstructured --sparsities 0.8 0.9
    python tools/bench_accelerate.py --batch 16 --threads all
    python tools/bench_accelerate.py --quick                             # a small network, to see that it runs

The weights are new; a pattern is what its regime leaves of them, without training: times do not depend on their values.
Of dense networks the fastest counts: torch eager (both memory formats), torch.compile, ONNX Runtime, OpenVINO, norms
folded. All are called in turn; times are medians, of processor time where one thread computes. The last column is the
fastest dense time divided by the accelerated network's.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from bench_networks import by_name
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import campfire_fx  # noqa: E402
from campfire_fx.cost.runtime_times import BenchRecord  # noqa: E402
from campfire_fx.export.runtimes import RUNTIMES, Source  # noqa: E402

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2")
PATTERNS = ("combined", "unstructured")
DENSE = ("torch eager", "torch.compile", "ONNX Runtime", "OpenVINO")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each network."""
    options = parsed(arguments)
    threads = torch.get_num_threads() if options.threads == "all" else int(options.threads)
    torch.set_num_threads(threads)
    example = torch.randn(options.batch, 3, options.size, options.size)
    print(
        f"Batch {options.batch} of {options.size} pixels, {threads} thread(s), medians of {options.repeats} calls, ms\n"
    )
    for name in options.networks:
        torch.manual_seed(0)
        print(network_table(name, by_name(name).eval(), example, threads, options), flush=True)
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="names of torchvision or the train command")
    parser.add_argument("--patterns", nargs="+", default=PATTERNS, help="regimes that take a sparsity")
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.8, 0.9])
    parser.add_argument("--runtimes", nargs="+", default=None, choices=DENSE, help="with torch eager; default: all")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=224, help="of the image, in pixels")
    parser.add_argument("--threads", default="1", help="a number, or all")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    if options.quick:
        options.networks, options.size, options.repeats, options.sparsities = ["resnet8"], 16, 2, [0.9]
    return options


def network_table(name: str, network: nn.Module, example: Tensor, threads: int, options: Any) -> str:
    """Time one network, dense and with each pattern, and return the table."""
    wanted = {DENSE[0], *(options.runtimes or DENSE)}  # what is accelerated runs in the first
    asked = [one for one in DENSE if RUNTIMES[one].installed and one in wanted]
    models: dict[str, Source] = {}
    for pattern in options.patterns:
        for sparsity in options.sparsities:
            told = f"{pattern} {sparsity:.0%}"
            print(f"{name}, {told} ...", file=sys.stderr, flush=True)
            models[told] = campfire_fx.accelerate(with_zeros(network, pattern, sparsity, example), example)
    with tempfile.TemporaryDirectory() as folder:
        sources = dense_sources(network, example, Path(folder), asked) | models
        record = campfire_fx.bench(sources, example, threads=threads, repeats=options.repeats, runtimes=asked)
    dense = {f"{row.runtime}{row.name.removeprefix('dense')}": row for row in record.rows if row.name not in models}
    known = {told: row.latency.median_ms for told, row in dense.items() if row.latency is not None}
    best = min(known, key=known.__getitem__)
    lines = [f"{name}: dense " + ", ".join(f"{told} {ms:.1f}" for told, ms in known.items()), ""]
    lines += [f"| {name} | ms | {best} dense / it |", "|---|---:|---:|"]
    for told in models:
        ms = median(record, told)
        lines.append(f"| {told} | {ms:.1f} | {known[best] / ms:.2f}x |")
    return "\n".join([*lines, ""])


def with_zeros(network: nn.Module, pattern: str, sparsity: float, example: Tensor) -> nn.Module:
    """Return the slim network of what a regime leaves."""
    sparse = campfire_fx.sparsify(copy.deepcopy(network), pattern, sparsity=sparsity, example_inputs=example)
    return sparse.finalize().eval().shrink()


def dense_sources(network: nn.Module, example: Tensor, folder: Path, asked: Sequence[str]) -> dict[str, Source]:
    """Return the dense network in the forms that the runtimes open."""
    folded = campfire_fx.shrink(network, example, fold_norms=True)
    last: Any = copy.deepcopy(folded)
    sources: dict[str, Source] = {"dense": folded, "dense, channels last": last.to(memory_format=torch.channels_last)}
    if any(".onnx" in RUNTIMES[one].suffixes for one in asked):
        campfire_fx.export(folded, folder / "dense.onnx", example)
        sources["dense, .onnx"] = folder / "dense.onnx"
    return sources


def median(record: BenchRecord, name: str) -> float:
    """Return the milliseconds of an accelerated network in torch as it is."""
    for row in record.rows:
        if row.name == name and row.runtime.startswith("torch eager") and row.latency is not None:
            return row.latency.median_ms
    reasons = [row.reason for row in record.rows if row.name == name]
    raise SystemExit(f"{name} does not run: {reasons}")


if __name__ == "__main__":
    sys.exit(main())
