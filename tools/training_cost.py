"""What a step of sparse training costs beside a dense one: its time and its peak memory, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from allocation import bytes_alive, peak_within
from rounds import Contender, in_turns
from torch import Tensor, nn

from campfire_fx import SparseModel
from campfire_fx.app.train.loop import make_optimizer
from campfire_fx.app.train.recipe import Recipe

_STEPS = 10  # in a round: as many as SWAT takes from one computation of its thresholds to the next
_ROUNDS = 3


def training_cost(
    network: Callable[[], nn.Module], dense: Callable[[], nn.Module], shape: tuple[int, int, int], recipe: Recipe
) -> dict[str, Any]:
    """Measure steps in the middle of the pruning era: masks are there, and what a method keeps beside its weights.

    The peak is of a step, with all that lies there between steps: weights, momenta, masks.

    Args:
        network: builds what is measured.
        dense: builds what it is compared with.
        shape: (C, H, W) of an image.
        recipe: optimizer, batch, precision and era.
    """
    peaks, steps = {}, {}
    for name, build in (("", network), ("dense_", dense)):
        before = bytes_alive()
        steps[name] = _step_of(build(), shape, recipe)
        for _ in range(2):  # state of the optimizer is made in the first, and its masks' factors
            steps[name]()
        between = bytes_alive() - before
        peaks[f"{name}peak_bytes"] = between + peak_within(steps[name])
    times = in_turns({name: Contender(_repeated(step)) for name, step in steps.items()}, _ROUNDS)
    return peaks | {f"{name}step_ms": 1e3 * statistics.median(took) / _STEPS for name, took in times.items()}


def _step_of(network: nn.Module, shape: tuple[int, int, int], recipe: Recipe) -> Callable[[], None]:
    optimizer = make_optimizer(network.train(), recipe)
    images, targets = torch.randn(recipe.batch, *shape), torch.zeros(recipe.batch, dtype=torch.long)
    if isinstance(network, SparseModel):
        if network._life_cycle.gathering:
            network.gather(_loss, [(images, targets)])
        network.attach(optimizer)
        network.epoch(sum(recipe.era) // 2)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            answer = network(images)
        F.cross_entropy(answer.float(), targets).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(network(batch[0]), batch[1])


def _repeated(step: Callable[[], None]) -> Callable[[object], None]:
    def run(_: object) -> None:
        for _ in range(_STEPS):
            step()

    return run
