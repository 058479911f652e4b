"""The runs of a comparison: which there are, how one is trained and measured, and the file that it becomes."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from run_files import read, tested, write
from torch import Tensor, nn
from training_cost import training_cost

from campfire_fx import SparseModel, export, load, sparsify
from campfire_fx.app.robustness import Normalisation, attack
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.loop import fit
from campfire_fx.app.train.models import build_model
from campfire_fx.app.train.networks import restart
from campfire_fx.app.train.recipe import Recipe
from campfire_fx.app.train.split import Split
from campfire_fx.base.errors import CampfireError
from campfire_fx.cost.measure import latencies, macs, parameters
from campfire_fx.sparsity import ERK, Regime, regime_named
from campfire_fx.sparsity.assignment import check_sparsity

DENSE = "dense"
LATENCY_BATCH = 64
_REPEATS = 60
_ATTACK_BATCH = 500


@dataclass(frozen=True, slots=True)
class Run:
    """One network to train.

    Attributes:
        method: "dense", or a regime by name; with "+erk" after it, its sparsity is divided among the layers by ERK.
        sparsity: that the regime is asked for; 0 for dense.
        seed: of initial weights and of the order and augmentation of images.
        scratch: train the slim widths that the run of the same name gave, with new weights.
    """

    method: str
    sparsity: float
    seed: int
    scratch: bool = False

    @property
    def label(self) -> str:
        """What it is called in tables, whatever the seed."""
        what = self.method if self.method == DENSE else f"{self.method} {100 * self.sparsity:g} %"
        return f"{what}, slim from scratch" if self.scratch else what

    @property
    def name(self) -> str:
        """What its files are called."""
        return (
            self.label.replace(" %", "").replace(", ", "-").replace(" ", "-").replace(":", "of") + f"-seed{self.seed}"
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """What all runs of a folder share, so that they can be compared.

    Attributes:
        data: what the images are called.
        model: the dense network, by name.
        shape: of an image, C H W.
        classes: how many.
        recipe: of every training.
        images: how many training images; None: all.
        eras: first and last epoch of the era of single methods; others have the recipe's.
    """

    data: str
    model: str
    shape: tuple[int, int, int]
    classes: int
    recipe: Recipe
    images: int | None = None
    eras: dict[str, tuple[int, int]] = field(default_factory=dict)

    def to_facts(self) -> dict[str, Any]:
        """Return it as JSON would give it back."""
        facts: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return facts

    @classmethod
    def completed(cls, facts: dict[str, Any]) -> dict[str, Any]:
        """Return facts of `to_facts`; what their recipe does not name had its default when they were written."""
        recipe: dict[str, Any] = json.loads(json.dumps(asdict(Recipe(**facts["recipe"]))))
        return {"images": None, "eras": {}} | facts | {"recipe": recipe}

    def of(self, method: str) -> Recipe:
        """Return the recipe of a method: with its own era, where it has one."""
        return replace(self.recipe, era=self.eras.get(method, self.recipe.era))

    def build(self) -> nn.Module:
        """Return the dense network with new weights."""
        network = build_model(self.model, classes=self.classes, channels=self.shape[0])
        return network.to(memory_format=torch.channels_last)  # a third less time on a CPU


def plan(methods: list[str], sparsities: list[float], seeds: list[int], *, scratch: bool = True) -> list[Run]:
    """List the runs in the order in which an unfinished comparison says most.

    A seed is finished before the next one begins; in each, dense comes first and the runs from scratch last. A
    regime that fixes its own sparsity (N:M), or is given one behind its name (sfp=0.5), runs at that one alone.
    """
    runs: list[Run] = []
    for sparsity in sparsities:
        check_sparsity(sparsity, "--sparsities")
    for seed in seeds:
        sparse = []
        for sparsity in sparsities:
            sparse += [Run(*_at(method, sparsity), seed) for method in methods]
        sparse = list(dict.fromkeys(sparse))
        runs += [Run(DENSE, 0.0, seed), *sparse]
        if scratch:
            runs += [replace(run, scratch=True) for run in sparse]
    return runs


def _at(method: str, sparsity: float) -> tuple[str, float]:
    """Return the regime of an entry of --methods, and the sparsity at which it runs."""
    name, given, own = method.partition("=")
    fixed = regime_of(name).sparsity
    if given:
        try:
            fixed = float(own)
        except ValueError:
            raise CampfireError(f"--methods {method}: {own!r} is no sparsity. Write {name}=0.5.") from None
        check_sparsity(fixed, "--methods")
    return name, sparsity if fixed is None else fixed


def regime_of(method: str) -> Regime:
    """Return the regime of a run's method."""
    name, _, budget = method.partition("+")
    if budget not in {"", "erk"}:
        raise CampfireError(f"--methods {method}: there is no budget '{budget}'. Give {name}+erk, or {name}.")
    regime = regime_named(name)
    return replace(regime, budget=ERK()) if budget else regime


def execute(run: Run, budget: Budget, data: ImageData, folder: Path) -> dict[str, Any]:
    """Train and measure one network and write its files; returns what its JSON file holds.

    The network is kept as a .safetensors file and the code beside it: `load` gives it back. The test images are
    looked at once, after training.
    """
    began = time.perf_counter()
    parent = replace(run, scratch=False)
    if run.scratch and _as_wide_as_dense(read(folder, parent)):
        # Not a channel was removed: its widths from scratch are those of the dense run.
        facts = read(folder, Run(DENSE, 0.0, run.seed)) | {"same_as": Run(DENSE, 0.0, run.seed).name, "seconds": 0.0}
        return write(facts | {"run": asdict(run)}, folder, run)
    network, found = _trained(run, budget, data, folder)
    network.eval()
    file = export(network, folder / f"{run.name}.safetensors", _example(budget))
    facts = {"run": asdict(run), "budget": budget.to_facts(), "bytes": file.bytes, "same_as": None}
    facts |= found | _measured(network, budget) | tested(network, data)
    return write(facts | {"seconds": time.perf_counter() - began, "fgsm": None}, folder, run)


def _trained(run: Run, budget: Budget, data: ImageData, folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the trained network, slim where it was sparse, and what is known from its training."""
    torch.manual_seed(run.seed)
    if run.scratch:
        network = load(folder / f"{replace(run, scratch=False).name}.safetensors")
        assert isinstance(network, nn.Module)  # what .safetensors files hold
        network = restart(network).to(memory_format=torch.channels_last)
        return network, _fitted(network, run, budget, data)
    network = budget.build()
    build = budget.build if run.method == DENSE else partial(sparsified, network, run, budget)
    cost = training_cost(build, budget.build, budget.shape, budget.recipe)
    if run.method == DENSE:
        return network, cost | _fitted(network, run, budget, data)
    sparse = sparsified(network, run, budget)
    facts = cost | _fitted(sparse, run, budget, data)
    slim = sparse.eval().shrink()
    assert slim.verification is not None  # shrink proves unless told not to
    return slim, facts | _sparsity(sparse) | {"difference": slim.verification.difference}


def sparsified(network: nn.Module, run: Run, budget: Budget) -> SparseModel:
    """Return a sparse copy of a dense network."""
    regime = regime_of(run.method)
    return sparsify(
        network, regime, sparsity=run.sparsity, era=budget.of(run.method).era, example_inputs=_example(budget)
    )


def _fitted(network: nn.Module, run: Run, budget: Budget, data: ImageData) -> dict[str, Any]:
    began = time.perf_counter()
    epochs = fit(network, data, budget.of(run.method), seed=run.seed, title=run.label)
    took = time.perf_counter() - began
    return {"valid": epochs[-1].valid, "losses": [epoch.loss for epoch in epochs], "training_seconds": took}


def _sparsity(sparse: SparseModel) -> dict[str, Any]:
    record = sparse.sparsity()
    kernels, window = record.shares
    return {
        "target": record.target,
        "true": record.true,
        "overall": record.overall,
        "kernels": kernels,
        "window": window,
        "dead_filters": sum(layer.dead_filters for layer in record.layers),
    }


def _measured(network: nn.Module, budget: Budget) -> dict[str, Any]:
    """Measure sizes, and the time of a batch against the dense network's, in turns: a busy machine slows both."""
    dense = budget.build().eval()
    times = latencies({"this": network, "dense": dense}, (torch.randn(LATENCY_BATCH, *budget.shape),), repeats=_REPEATS)
    return {
        "parameters": parameters(network),
        "nonzero": sum(int(tensor.count_nonzero()) for tensor in network.parameters()),
        "macs": macs(network, (_example(budget),)).total,
        "latency_ms": times["this"].median_ms,
        "dense_latency_ms": times["dense"].median_ms,
    }


def _as_wide_as_dense(facts: dict[str, Any]) -> bool:
    budget = facts["budget"]
    dense = build_model(budget["model"], classes=budget["classes"], channels=budget["shape"][0])
    return facts["parameters"] == parameters(dense)


def _example(budget: Budget) -> Tensor:
    return torch.randn(1, *budget.shape, generator=torch.Generator().manual_seed(0))


def attacked(run: Run, epsilons: list[float], data: ImageData, folder: Path) -> dict[str, Any]:
    """Add what a finished network still knows under FGSM to its file, for the epsilons (in 1/255) that it lacks."""
    facts = read(folder, run)
    known = facts["fgsm"] or {}
    missing = [epsilon for epsilon in epsilons if f"{epsilon:g}/255" not in known]
    if not missing:
        return facts
    network = load(folder / f"{facts['same_as'] or run.name}.safetensors")
    assert isinstance(network, nn.Module)  # what .safetensors files hold
    assert isinstance(data.test, Split)  # small images, held in memory
    images, targets = data.test.images.float() / 255, data.test.targets
    batches = zip(images.split(_ATTACK_BATCH), targets.split(_ATTACK_BATCH), strict=True)
    steps = [epsilon / 255 for epsilon in missing]
    record = attack({run.name: network}, batches, steps, normalisation=Normalisation(data.mean, data.std))
    (curve,) = record.curves
    by_step = dict(zip(record.epsilons, curve.right, strict=True))
    shares = {f"{epsilon:g}/255": by_step[epsilon / 255] / record.images for epsilon in missing}
    return write(facts | {"fgsm": known | shares}, folder, run)
