"""Which networks are trained: the methods by name, and the runs in the order in which an unfinished front says most."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from run_files import ROOT  # noqa: F401 - it also lets campfire_fx be found

from campfire_fx.base.errors import CampfireError
from campfire_fx.sparsity import regime_named
from campfire_fx.sparsity.assignment import check_sparsity

DENSE, UNIFORM, THEIRS = "dense", "uniform", "torch-pruning"
CHANNELS = ("channel", "channel-combined")
SCORES = ("flow", "l1", "l2", "norm_scale", "taylor", "fpgm", "at_random")
SCOPES = ("global", "each-set")
IMPORTANCES = ("magnitude", "taylor")
WAYS = ("gradual", "one-shot")
CUT = "+reconfigure"


@dataclass(frozen=True, slots=True)
class Run:
    """One network to train.

    Attributes:
        method: "dense"; "uniform"; "torch-pruning/IMPORTANCE/WAY"; "channel/SCORE/SCOPE" or
            "channel-combined/SCORE/SCOPE" (score and scope may be left out); or another regime by name. A regime with
            "+reconfigure" behind it trains in a smaller network from every epoch of the era on.
        target: share of the dense multiply-accumulates that is left; None where the method takes no target.
        sparsity: share of zeros; None where the method takes none.
        seed: of initial weights and of the order and augmentation of images.
        scratch: train the widths that the run of the same name gave, with new weights.
    """

    method: str
    target: float | None = None
    sparsity: float | None = None
    seed: int = 0
    scratch: bool = False

    @property
    def label(self) -> str:
        """What it is called in tables, whatever the seed."""
        target = "" if self.target is None else f" {self.target:g} MACs"
        zeros = "" if self.sparsity is None else f" {100 * self.sparsity:g} % zeros"
        return f"{self.method}{target}{zeros}{', widths from scratch' if self.scratch else ''}"

    @property
    def line(self) -> str:
        """What its line in a picture is called, whatever target and seed."""
        return f"{self.method}{', widths from scratch' if self.scratch else ''}"

    @property
    def name(self) -> str:
        """What its files are called."""
        return re.sub(r"[^\w.]+", "-", self.label.replace(" %", "").replace(":", "of")) + f"-seed{self.seed}"

    @property
    def kind(self) -> str:
        """The first word of its method."""
        return self.method.removesuffix(CUT).partition("/")[0]

    @property
    def parts(self) -> tuple[str, ...]:
        """The other words of its method, without +reconfigure."""
        return tuple(self.method.removesuffix(CUT).split("/")[1:])

    @property
    def cut(self) -> bool:
        """Whether training goes on in smaller networks."""
        return self.method.endswith(CUT)

    @property
    def new_weights(self) -> bool:
        """Whether it cannot begin from a trained dense network."""
        return self.scratch or self.kind == UNIFORM

    @property
    def parent(self) -> Run:
        """The run whose widths a run from scratch takes."""
        return replace(self, scratch=False)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked for: see the options of tools/run_pareto.py of these names."""

    methods: tuple[str, ...]
    targets: tuple[float, ...]
    sparsities: tuple[float, ...]
    seeds: tuple[int, ...]
    scratch: tuple[str, ...] = ()
    trained: bool = False


def plan(wishes: Wishes) -> list[Run]:
    """List the runs: seed after seed; dense first, then target after target, widths from scratch behind their targets.

    Raises:
        CampfireError: a method or a number is not known, or cannot begin from a trained network.
    """
    for number in (*wishes.targets, *wishes.sparsities):
        check_sparsity(number, "--targets and --sparsities")
        if not number:
            raise CampfireError("--targets and --sparsities 0: there would be nothing to train. Give numbers above 0.")
    missing = [method for method in wishes.scratch if method not in wishes.methods]
    if missing:
        raise CampfireError(f"--scratch {missing[0]}: it is not among the methods. Add it to --methods.")
    runs: list[Run] = []
    for seed in wishes.seeds:
        runs.append(Run(DENSE, seed=seed))
        for index in range(max(len(wishes.targets), len(wishes.sparsities))):
            found = [run for method in wishes.methods for run in _of(method, index, seed, wishes)]
            runs += found + [replace(run, scratch=True) for run in found if run.method in wishes.scratch]
    return runs


def _of(method: str, index: int, seed: int, wishes: Wishes) -> list[Run]:
    """Return the runs of a method at the index-th target or sparsity."""
    run = checked(Run(method, seed=seed))
    if wishes.trained and (run.new_weights or method in wishes.scratch):
        raise CampfireError(
            f"--from-trained at {method}: it begins with new weights. Leave it out of --methods and --scratch."
        )
    targets, sparsities = wishes.targets[index : index + 1], wishes.sparsities[index : index + 1]
    if run.kind == "channel-combined":
        return [replace(run, target=t, sparsity=s) for t in targets for s in wishes.sparsities]
    if takes_target(run):
        return [replace(run, target=target) for target in targets]
    fixed = regime_named(run.kind).sparsity
    if fixed is not None:
        return [] if index else [replace(run, sparsity=fixed)]
    return [replace(run, sparsity=sparsity) for sparsity in sparsities]


def takes_target(run: Run) -> bool:
    """Whether a method goes to a share of the MACs; others go to a share of zeros."""
    return run.kind in {UNIFORM, THEIRS, *CHANNELS}


def checked(run: Run) -> Run:
    """Return the run if its method is known, else raise a CampfireError."""
    known: dict[str, tuple[tuple[str, ...], ...]] = {UNIFORM: (), THEIRS: (IMPORTANCES, WAYS)}
    known |= dict.fromkeys(CHANNELS, (SCORES, SCOPES))
    words = known.get(run.kind, ())
    fits = len(run.parts) <= len(words) and all(p in w for p, w in zip(run.parts, words, strict=False))
    fixed = run.kind in {UNIFORM, THEIRS}
    if not fits or (run.kind == THEIRS and len(run.parts) < 2) or (run.cut and fixed):
        choices = "".join("/" + "|".join(choice) for choice in words)
        end = "" if fixed else f", and {CUT} behind it"
        raise CampfireError(f"--methods {run.method}: there is no such form of it. Give {run.kind}{choices}{end}.")
    if not fixed:
        regime_named(run.kind)
    return run


def from_facts(facts: dict[str, Any]) -> Run:
    """Return the run that a file was written of."""
    return Run(**facts["run"])
