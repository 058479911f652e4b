"""Which runtime skips which zeros: one network with zeros in many patterns, timed in every runtime that is installed.

    python tools/bench_runtimes.py                                    # ResNet-18, one image of 224 pixels, one thread
    python tools/bench_runtimes.py --network resnet50 --patterns 1x4 unstructured --sparsities 0.8 0.9
    python tools/bench_runtimes.py --quick                            # a small network, to see that it runs

The weights are new; a pattern is what its regime leaves of them, without training: times do not depend on their values.
Each network is written as .onnx and .mnn, and timed in turns with the dense one. A cell is how many times as fast a
runtime is with it as with the dense network, by medians; the first row has the dense network's milliseconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from bench_networks import by_name
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import campfire_fx  # noqa: E402
from campfire_fx.cost.runtime_times import BenchRecord  # noqa: E402
from campfire_fx.export.runtimes import RUNTIMES, Source  # noqa: E402

PATTERNS = ("unstructured", "ck", "combined", "window", "1x4", "2:4", "channel")
FIXED = {"2:4": "2:4", "channel": "channel, half of the MACs"}
"""Patterns whose sparsity is their own, and what they are called."""
SUFFIXES = (".onnx", ".mnn")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    options = parsed(arguments)
    example = torch.randn(1, 3, options.size, options.size)
    torch.manual_seed(0)
    dense = by_name(options.network).eval()
    with tempfile.TemporaryDirectory() as folder:
        dense_sources = sources_of("dense", dense, Path(folder), example, options.runtimes)
        rows = []
        for name, network in networks(dense, options.patterns, options.sparsities, example):
            print(f"{name} ...", file=sys.stderr, flush=True)
            found = dense_sources | sources_of(name, network, Path(folder), example, options.runtimes)
            record = campfire_fx.bench(
                found, example, threads=options.threads, runtimes=options.runtimes, repeats=options.repeats
            )
            rows.append((name, record))
    print(table(rows))
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18", help="a name of torchvision, or of the train command")
    parser.add_argument("--patterns", nargs="+", default=PATTERNS, help="regimes")
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.8])
    parser.add_argument("--runtimes", nargs="+", default=None, choices=list(RUNTIMES))
    parser.add_argument("--size", type=int, default=224, help="of the image, in pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    if options.quick:
        options.network, options.size, options.repeats = "resnet8", 16, 2
    if options.runtimes is None:
        options.runtimes = [name for name, runtime in RUNTIMES.items() if runtime.installed]
    return options


def networks(
    dense: nn.Module, patterns: Sequence[str], sparsities: Sequence[float], example: torch.Tensor
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the dense network with zeros in each pattern, by what the table calls it."""
    for pattern in patterns:
        for sparsity in sparsities if pattern not in FIXED else [None]:
            wishes: dict[str, Any] = (
                {"target": {"macs": 0.5}} if pattern == "channel" else {"sparsity": sparsity or 0.5}
            )
            sparse = campfire_fx.sparsify(dense, pattern, example_inputs=example, **wishes).finalize()
            network = sparse.shrink() if pattern == "channel" else sparse
            yield FIXED.get(pattern, f"{pattern}, {100 * (sparsity or 0):.0f} %"), network.eval()


def sources_of(
    name: str, network: nn.Module, folder: Path, example: torch.Tensor, runtimes: Sequence[str]
) -> dict[str, Source]:
    """Write the files that the runtimes open; return them with the network itself."""
    needed = {suffix for runtime in runtimes for suffix in RUNTIMES[runtime].suffixes}
    found: dict[str, Source] = {name: network} if ".pt2" in needed else {}
    for suffix in SUFFIXES:
        if suffix in needed:
            path = folder / f"{name.replace(' ', '').replace(':', 'of').replace('%', '')}{suffix}"
            campfire_fx.export(network, path, example)
            found[f"{name}{suffix}"] = path
    return found


def table(rows: Sequence[tuple[str, BenchRecord]]) -> str:
    """Return a table in Markdown: a row for each pattern, a column for each runtime."""
    runtimes = list(dict.fromkeys(row.runtime for _, record in rows for row in record.rows))
    lines = [f"| pattern | {' | '.join(runtimes)} |", f"|---|{'---:|' * len(runtimes)}"]
    first = rows[0][1]
    lines.append(f"| dense, ms | {' | '.join(cell(first, 'dense', runtime) for runtime in runtimes)} |")
    for name, record in rows:
        lines.append(f"| {name} | {' | '.join(ratio(record, name, runtime) for runtime in runtimes)} |")
    return "\n".join(lines)


def milliseconds(record: BenchRecord, name: str, runtime: str) -> float | None:
    """Return the median of a network in a runtime."""
    for row in record.rows:
        if row.runtime == runtime and row.name.removesuffix(".onnx").removesuffix(".mnn") == name and row.latency:
            return row.latency.median_ms
    return None


def cell(record: BenchRecord, name: str, runtime: str) -> str:
    """Return it as text."""
    found = milliseconds(record, name, runtime)
    return "-" if found is None else f"{found:.1f}"


def ratio(record: BenchRecord, name: str, runtime: str) -> str:
    """Return how many times as fast as the dense network it is."""
    dense, found = milliseconds(record, "dense", runtime), milliseconds(record, name, runtime)
    return "-" if dense is None or found is None else f"{dense / found:.2f}"


if __name__ == "__main__":
    sys.exit(main())
