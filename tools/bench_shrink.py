"""Time and weigh a shrink: against Torch-Pruning, in growing depth, in memory, and what the proof costs.

    python tools/bench_shrink.py                          # everything; DenseNet-201 alone takes Torch-Pruning long
    python tools/bench_shrink.py models --models resnet50 regnet_x_400mf
    python tools/bench_shrink.py growth memory verify     # some sections
    python tools/bench_shrink.py --quick                  # a small model and little depth, to see that it runs

models: capture + analysis + shrink without the proof, against Torch-Pruning's dependency graph + pruning of half of
    all filters (BasePruner, at 224 px), one thread each, in turns. Half of the filters of our model are zero, and a
    third of the other kernels. Our time holds the copy that leaves the model given as it was; Torch-Pruning works in
    place, and the copy it needs for that is not timed. It chooses filters by their magnitude, its default, or with
    `--importance random` without looking at them.
growth: seconds for each layer of a chain and of a dense block, by depth, and the exponent of the law fitted to them.
memory: the largest resident memory in a process of its own, proof included, above what was there with the model made.
verify: the seconds of the proof alone.

Every row says whether it keeps its limit; the exit status is 1 if one does not.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rounds import Contender, in_turns
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from campfire_fx import shrink  # noqa: E402
from campfire_fx.cost.measure import parameters, size_bytes  # noqa: E402
from tests.random_zeros import random_zeros, randomise  # noqa: E402

MODELS = ("resnet50", "resnet152", "densenet201", "efficientnet_b7", "regnet_x_400mf")
FASTER = {"densenet201": 10.0}  # Torch-Pruning's time over ours; 1 elsewhere
LARGE = ("resnet50", "resnet152", "efficientnet_b7")
DEPTHS = (100, 300, 1000)
MOST_EXPONENT = 1.15  # 1 is linear; the rest is left to the noise of the machine
MEGABYTE = 1_000_000
QUICK = "a small network"
ENOUGH = 10.0  # seconds: what takes longer is timed once


def main() -> int:
    """Run the sections asked for and print a table for each; returns 1 if a limit was not kept."""
    options = parse()
    torch.set_num_threads(options.threads)
    if options.weigh:
        print(json.dumps(weigh(options.weigh)))
        return 0
    torch.manual_seed(0)
    console = Console()
    kept = True
    for section in options.sections:
        table, passed = SECTIONS[section](options)
        console.print(table)
        kept &= passed
    console.print("every limit is kept" if kept else "[red]not every limit is kept")
    return 0 if kept else 1


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="section", help="models, growth, memory, verify (default: all)")
    parser.add_argument("--models", nargs="+", help="torchvision classifiers, for the sections that time models")
    parser.add_argument("--importance", choices=["magnitude", "random"], default="magnitude", help="of Torch-Pruning")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a small network and little depth")
    parser.add_argument("--weigh", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    options.sections = options.sections or list(SECTIONS)
    options.depths, options.enough = DEPTHS, ENOUGH
    if options.quick:
        options.models, options.repeats, options.depths = [QUICK], min(options.repeats, 2), (5, 10, 20)
        options.enough = math.inf  # however busy the machine is
    return options


# The models.


def network(name: str) -> nn.Module:
    """Return a torchvision classifier, or the small network of --quick, half of its filters zero."""
    if name == QUICK:
        model = chain(8)
    else:
        import torchvision

        model = torchvision.models.get_model(name, weights=None)
    return random_zeros(randomise(model)).eval()


def image(size: int = 224) -> Tensor:
    """Return a batch of one image."""
    return torch.randn(1, 3, size, size)


def chain(depth: int) -> nn.Module:
    """Return convolutions with norms, one after the other."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1)]
    for _ in range(depth - 1):
        layers += [nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


class DenseBlock(nn.Module):
    """Convolutions each of which reads what all before it have made."""

    def __init__(self, depth: int, growth: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(8 + growth * i), nn.ReLU(), nn.Conv2d(8 + growth * i, growth, 1))
            for i in range(depth - 1)
        )
        self.stem = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8 + growth * (depth - 1), 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.head(x.mean((2, 3)))


def shrinking(model: nn.Module, example: Tensor) -> Contender:
    """Return our side of a race: capture, analysis and shrink; no proof."""
    return Contender(lambda _: shrink(model, example, verify=False))


# Against Torch-Pruning.


def models(options: argparse.Namespace) -> tuple[Table, bool]:
    """Time every model against Torch-Pruning."""
    table = table_of(
        f"Half of all filters: median seconds, {options.threads} thread(s), {options.importance} choice",
        "model", "campfire_fx", "Torch-Pruning", "ratio", "at least", "left", "runs", "",
    )  # fmt: skip
    passed = True
    for name in options.models or MODELS:
        model, example = network(name), image()
        contenders = {
            "ours": shrinking(model, example),
            "theirs": pruning(model, example, options.importance),
        }
        times = in_turns(contenders, options.repeats, enough=options.enough)
        ours, theirs = statistics.median(times["ours"]), statistics.median(times["theirs"])
        together = len(times["ours"]) == len(times["theirs"])
        ratio = theirs / ours
        if together:
            ratio = statistics.median(b / a for a, b in zip(times["ours"], times["theirs"], strict=True))
        limit = FASTER.get(name, 1.0)
        passed &= ratio >= limit
        left = parameters(shrink(model, example, verify=False)) / parameters(model)
        counts = f"{len(times['ours'])}, {len(times['theirs'])}"
        cells = [f"{ours:.3f}", f"{theirs:.3f}", f"{ratio:.2f}", f"{limit:g}", f"{left:.0%}", counts]
        table.add_row(name, *cells, verdict(ratio >= limit))
    return table, passed


def pruning(model: nn.Module, example: Tensor, importance: str) -> Contender:
    """Return Torch-Pruning's side: its graph, then half of the filters of every layer but the head."""
    import torch_pruning

    criteria = torch_pruning.pruner.importance
    criterion = {"random": criteria.RandomImportance, "magnitude": criteria.MagnitudeImportance}[importance]

    def run(given: nn.Module) -> None:
        head = [layer for layer in given.modules() if isinstance(layer, nn.Linear)][-1]
        wishes = {"pruning_ratio": 0.5, "ignored_layers": [head]}
        torch_pruning.pruner.BasePruner(given, example, importance=criterion(), **wishes).step()

    return Contender(run, lambda: copy.deepcopy(model))


# Growth with depth.


def growth(options: argparse.Namespace) -> tuple[Table, bool]:
    """Time chains and dense blocks of several depths."""
    depths = options.depths
    titles = [f"at {depth}" for depth in depths]
    table = table_of("Growth with depth: ms a layer", "network", *titles, "exponent", "at most", "")
    passed = True
    kinds: dict[str, Callable[[int], nn.Module]] = {"chain": chain, "dense block": DenseBlock}
    for kind, make in kinds.items():
        ready = {str(depth): random_zeros(randomise(make(depth))).eval() for depth in depths}
        contenders = {name: shrinking(model, image(32)) for name, model in ready.items()}
        times = in_turns(contenders, min(options.repeats, 3))
        seconds = [statistics.median(times[str(depth)]) for depth in depths]
        exponent = statistics.linear_regression(*([math.log(v) for v in values] for values in (depths, seconds))).slope
        good = exponent <= MOST_EXPONENT
        passed &= good
        each = [f"{1e3 * s / d:.2f}" for s, d in zip(seconds, depths, strict=True)]
        table.add_row(kind, *each, f"{exponent:.2f}", f"{MOST_EXPONENT}", verdict(good))
    return table, passed


# Memory.


def memory(options: argparse.Namespace) -> tuple[Table, bool]:
    """Weigh every shrink in a process of its own."""
    table = table_of("Largest memory above the model's, MB, proof included", "model", "model", "peak", "at most", "")
    passed = True
    for name in options.models or LARGE:
        command = [sys.executable, __file__, "--weigh", name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        size, peak = json.loads(done.stdout.splitlines()[-1])
        limit = 3 * size + 500 * MEGABYTE
        passed &= peak <= limit
        cells = [f"{value / MEGABYTE:.0f}" for value in (size, peak, limit)]
        table.add_row(name, *cells, verdict(peak <= limit))
    return table, passed


def weigh(name: str) -> tuple[int, int]:
    """Return the bytes of a model, and how far a shrink with its proof raises the memory of this process."""
    model, example = network(name), image()
    size = size_bytes(model)
    forget_peak()
    before = resident("VmRSS")
    slim = shrink(model, example)
    peak = resident("VmHWM") - before
    del slim
    return size, peak


def forget_peak() -> None:
    """Let the high-water mark of this process start at what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")


def resident(what: str) -> int:
    """Return a count of bytes that Linux keeps of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


# The proof.


def verify(options: argparse.Namespace) -> tuple[Table, bool]:
    """Time the proof, at two sizes; it has no limit of its own."""
    table = table_of("The proof, seconds (two runs of both models)", "model", "shrink", "proof", "difference")
    for name in options.models or MODELS:
        model, example = network(name), image()
        start = time.perf_counter()
        shrink(model, example, verify=False)
        alone = time.perf_counter() - start
        start = time.perf_counter()
        slim = shrink(model, example)
        both = time.perf_counter() - start
        assert slim.verification is not None
        table.add_row(name, f"{alone:.2f}", f"{both - alone:.2f}", f"{slim.verification.difference:.1e}")
    return table, True


SECTIONS: dict[str, Callable[[Any], tuple[Table, bool]]] = {
    "models": models,
    "growth": growth,
    "memory": memory,
    "verify": verify,
}


def table_of(title: str, first: str, *others: str) -> Table:
    """Return an empty table: names to the left, numbers to the right."""
    table = Table(title=title)
    table.add_column(first, no_wrap=True)
    for other in others:
        table.add_column(other, justify="right")
    return table


def verdict(good: bool) -> str:
    """Say whether a limit was kept."""
    return "[green]pass" if good else "[red]FAIL"


if __name__ == "__main__":
    sys.exit(main())
