"""Time a training step of every regime beside the dense one, on one thread of a CPU.

    python tools/bench_methods.py --model resnet20 --size 32
    python tools/bench_methods.py --regimes sr-ste,swat-u --rounds 20

A regime and the dense network take turns, each first in every other pair of steps; told is the median of the pairs'
ratios with the quartiles. What counts is the processor's time and not the clock's, so that other work on the machine
matters less. Steps are those of the middle of an era, with the masks that are due there. What happens once an epoch
is not in them, nor what a method does every hundred steps or fewer (RigL's exchange). `hooks` is the time inside what
rides on the optimizer and on gradients, which is measured better than the difference of two steps: median of steps,
as a part of the dense one.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from bench_networks import by_name
from torch import Tensor, nn

from campfire_fx import sparsify
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.sparsity.regimes import ENTRIES
from campfire_fx.training.life_cycle import LifeCycle

HOOKS = ((LifeCycle, "before_step"), (LifeCycle, "after_step"), (MaskedLayer, "mask_gradient"))
Batch = tuple[Tensor, Tensor]


def main() -> None:
    """Parse the command line, time, and print one line for each regime."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet8")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=16, help="of the images, in pixels")
    parser.add_argument("--sparsity", type=float, default=0.7)
    parser.add_argument("--rounds", type=int, default=10, help="pairs of steps that are timed")
    parser.add_argument("--regimes", help="names with commas between them (default: all)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch = torch.randn(options.batch, 3, options.size, options.size), torch.randint(0, 10, (options.batch,))
    network = by_name(options.model)
    dense = stepping(copy.deepcopy(network), batch)
    inside = count_hooks()
    names = options.regimes.split(",") if options.regimes else list(ENTRIES)
    print(f"{options.model}, batch {options.batch} at {options.size} px, {options.rounds} pairs of steps")
    print(f"{'regime':20}{'to dense':>10}{'quartiles':>16}{'hooks':>8}{'dense ms':>10}", flush=True)
    for name in names:
        sparse = sparse_stepping(network, name, options.sparsity, batch)
        ratios, hooks, times = compared(dense, sparse, options.rounds, inside)
        low, middle, high = statistics.quantiles(ratios, n=4)
        ms = 1e3 * statistics.median(times)
        print(f"{name:20}{middle:10.2f}{low:9.2f} -{high:5.2f}{hooks:8.1%}{ms:10.1f}", flush=True)


def count_hooks() -> list[float]:
    """Return a list of one number, to which the seconds inside hooks are added from now on; calls within calls once."""
    inside, depth = [0.0], [0]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            depth[0] += 1
            start = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                depth[0] -= 1
                inside[0] += 0.0 if depth[0] else time.thread_time() - start

        return call

    for owner, name in HOOKS:
        setattr(owner, name, counted(getattr(owner, name)))
    return inside


def stepping(
    model: nn.Module, batch: Batch, attach: Callable[[torch.optim.Optimizer], object] = id
) -> Callable[[], None]:
    """Return one step of an ordinary training loop."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    attach(optimizer)
    model.train()

    def run() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()

    return run


def sparse_stepping(network: nn.Module, regime: str, sparsity: float, batch: Batch) -> Callable[[], None]:
    """Return one step in the middle of the era of a regime."""
    model = copy.deepcopy(network)
    sparse = sparsify(model, regime, sparsity=sparsity, era=(0, 4), example_inputs=batch[0][:1])
    if sparse._life_cycle.gathering:
        sparse.gather(lambda one, known: F.cross_entropy(one(known[0]), known[1]), [batch])

    def attach(optimizer: torch.optim.Optimizer) -> None:
        sparse.attach(optimizer)
        sparse.epoch(2)

    return stepping(sparse, batch, attach)


def compared(
    dense: Callable[[], None], sparse: Callable[[], None], rounds: int, inside: list[float]
) -> tuple[list[float], float, list[float]]:
    """Return the ratio of each pair of steps, the part of a dense step that hooks take, and the dense seconds."""
    ratios, hooks, times = [], [], []
    for index in range(-2, rounds):
        took = {}
        for step in (dense, sparse) if index % 2 else (sparse, dense):
            inside[0], start = 0.0, time.process_time()
            step()
            took[step] = time.process_time() - start, inside[0]
        if index >= 0:
            ratios.append(took[sparse][0] / took[dense][0])
            hooks.append(took[sparse][1])
            times.append(took[dense][0])
    return ratios, statistics.median(hooks) / statistics.median(times), times


if __name__ == "__main__":
    main()
