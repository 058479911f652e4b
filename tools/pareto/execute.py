"""One run: train, measure, look at the test images once, and write the file that tells of it."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from run_files import read, tested, write
from torch import nn

from campfire_fx import export, load
from campfire_fx.app.train.batches import TrainBatches
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.networks import restart
from campfire_fx.app.train.tally import accuracy
from campfire_fx.cost.measure import latencies, parameters
from pareto.budgets import PASSES, recipe_of
from pareto.methods import trainee_of
from pareto.plan import UNIFORM, Run
from pareto.setting import Setting, begin_trained, dense_macs, uniform_width
from pareto.training import train

BATCHES = {1: 200, 64: 40}  # of the images that are timed: how often


def execute(run: Run, setting: Setting, data: ImageData, folder: Path, trained: Path | None = None) -> dict[str, Any]:
    """Do one run and write its files; returns what its JSON file holds.

    The network is kept as a .safetensors file and the code beside it: `load` gives it back.

    Args:
        run: which.
        setting: of all runs.
        data: with the training images that are to be used.
        folder: of the files; of a run from scratch the run whose widths it takes lies there.
        trained: weights to begin with; None: new ones.
    """
    began = time.perf_counter()
    share = share_of(run, setting, folder)
    usual = setting.recipe
    batches = TrainBatches(data, usual.batch, run.seed, moved=usual.augment != "none")
    recipe = recipe_of(run, usual, setting.budget, share, len(batches))
    torch.manual_seed(run.seed)
    network = _beginning(run, setting, folder)
    if trained is not None:
        begin_trained(network, trained)
    torch.manual_seed(run.seed)  # what a method draws at first does not depend on what was built before
    trainee = trainee_of(run, network, recipe, batches, setting)
    found = train(trainee, setting, seed=run.seed, title=run.label)
    facts = {"run": asdict(run), "setting": setting.to_facts(), **asdict(found)} | trainee.finish()
    network = trainee.network.eval().to(memory_format=torch.channels_last)
    facts |= {"epochs": recipe.epochs, "era": list(recipe.era), "macs_by_epoch": found.macs}
    images = len(batches) * batches.batch
    facts["dense_training_macs"] = usual.epochs * images * PASSES * dense_macs(setting)
    facts |= measured(network, setting)
    facts |= {"bytes": export(network, folder / f"{run.name}.safetensors", setting.example).bytes}
    facts |= {"valid": accuracy(network, data.valid, data), **tested(network, data)}
    return write(facts | {"run_seconds": time.perf_counter() - began}, folder, run)


def share_of(run: Run, setting: Setting, folder: Path) -> float:
    """Return the share of the dense MACs that the network of a run begins with."""
    if run.scratch:
        return read(folder, run.parent)["macs"] / dense_macs(setting)
    if run.kind == UNIFORM:
        assert run.target is not None  # `plan` gave it one
        return setting.macs(setting.build(uniform_width(setting, run.target))) / dense_macs(setting)
    return 1.0


def _beginning(run: Run, setting: Setting, folder: Path) -> nn.Module:
    if run.scratch:
        network = load(folder / f"{run.parent.name}.safetensors")
        assert isinstance(network, nn.Module)  # what .safetensors files hold
        return restart(network).to(memory_format=torch.channels_last)
    if run.kind == UNIFORM:
        assert run.target is not None  # `plan` gave it one
        return setting.build(uniform_width(setting, run.target))
    return setting.build()


def measured(network: nn.Module, setting: Setting) -> dict[str, Any]:
    """Measure sizes, and times in turns with the dense network's: a busy machine slows both."""
    dense = setting.build().eval()
    facts: dict[str, Any] = {
        "macs": setting.macs(network),
        "dense_macs": setting.macs(dense),
        "parameters": parameters(network),
        "dense_parameters": parameters(dense),
        "nonzero": sum(int(tensor.count_nonzero()) for tensor in network.parameters()),
        "widths": widths(network),
    }
    for batch, repeats in BATCHES.items():
        images = torch.randn(batch, *setting.shape)
        times = latencies({"this": network, "dense": dense}, (images,), repeats=repeats)
        facts |= {f"latency_{batch}_ms": times["this"].median_ms, f"dense_latency_{batch}_ms": times["dense"].median_ms}
    return facts


def widths(network: nn.Module) -> dict[str, int]:
    """Return how many channels each layer gives out, by its name."""
    layers = (nn.Conv2d, nn.Linear)
    return {name: len(layer.weight) for name, layer in network.named_modules() if isinstance(layer, layers)}
