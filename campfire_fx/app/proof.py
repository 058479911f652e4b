"""A proof that two files compute the same: which files, on which inputs, with what differences; and checking it again.

The inputs are random numbers, drawn anew from a seed. The files are known by their SHA-256.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from campfire_fx.analysis.captured import Call
from campfire_fx.app.cli.networks import source_network
from campfire_fx.app.train.published import sha256_of
from campfire_fx.base.disk.whole import write_text
from campfire_fx.base.errors import ShrinkError
from campfire_fx.base.version import __version__
from campfire_fx.export import OnnxModel, load
from campfire_fx.export.agreement import Called, difference, faintness, reference_runs, run_once
from campfire_fx.export.onnx_agreement import rounds_alone
from campfire_fx.training.model import SparseModel

_FORM = 1
_PACKAGES = ("torch", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Source:
    """The file that was given, and what builds its model where the file alone does not."""

    file: str
    sha256: str
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """One comparison: shapes and types of the inputs, the seed that they are drawn from, the largest difference."""

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    seed: int
    difference: float

    def inputs(self) -> tuple[Tensor, ...]:
        """Draw the inputs: normal numbers; zeros where a type holds no fractions."""
        generator = torch.Generator().manual_seed(self.seed)
        kinds = [getattr(torch, name) for name in self.dtypes]
        drawn = [torch.randn(shape, generator=generator) for shape in self.shapes]
        return tuple(
            x.to(kind) if kind.is_floating_point else torch.zeros_like(x, dtype=kind)
            for x, kind in zip(drawn, kinds, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Proof:
    """What was compared.

    Attributes:
        before: the file that was given.
        after: name and SHA-256 of each file that was written.
        runs: the comparisons; differences are relative to the largest output.
        tolerance: the largest difference that passes; one of faint outputs in onnxruntime passes in float64.
        versions: of the packages that computed.
        form: of the JSON file; another one is not read.
    """

    before: Source
    after: Mapping[str, str]
    runs: tuple[Run, ...]
    tolerance: float
    versions: Mapping[str, str]
    form: int = _FORM

    @property
    def worst(self) -> float:
        """The largest difference."""
        return max(run.difference for run in self.runs)


def prove(
    source: Path, written: Sequence[Path], opened: tuple[str | None, Mapping[str, Any]], example: Call, path: Path
) -> Proof:
    """Compare the model of a file with a file made of it, each as a user runs it, and write what was found.

    An .onnx file is run in onnxruntime.

    Args:
        source: the file given.
        written: the files of `export`, the one to load first.
        opened: model and options that go with the source.
        example: (args, kwargs); other sizes are tried as well.
        path: of the proof, a JSON file. It names the files as they lie from there.

    Raises:
        ShrinkError: they differ, or take other inputs than tensors by position.
    """
    inputs, keywords = example
    if keywords or not all(isinstance(value, Tensor) for value in inputs):
        raise ShrinkError(
            "--proof: it records positional tensors alone, and this model takes other arguments. Leave it out."
        )
    before, after = _opened(source, *opened), load(written[0])
    found = reference_runs(Called(before), inputs, {})
    runs = []
    for seed, run in enumerate(found):
        shapes = tuple(tuple(value.shape) for value in run.args)
        dtypes = tuple(str(value.dtype).removeprefix("torch.") for value in run.args)
        runs.append(_compared(before, after, Run(shapes, dtypes, seed, 0.0)))
    proof = Proof(
        Source(_from(path, source), sha256_of(source), opened[0], dict(opened[1])),
        {_from(path, file): sha256_of(file) for file in written},
        tuple(runs),
        found.tolerance,
        {"campfire_fx": __version__, **{name: _version(name) for name in _PACKAGES}},
    )
    _check(proof, source, written[0], before, after)
    write_text(path, json.dumps(asdict(proof), indent=2) + "\n", ShrinkError)
    return proof


def check_again(path: Path) -> tuple[Proof, Proof]:
    """Run the files of a proof on its inputs; return it, and what was found now.

    Raises:
        ShrinkError: it cannot be read, a file is missing or is another one, or outputs differ.
    """
    proof = read(path)
    first, *rest = (path.parent / name for name in proof.after)
    source = path.parent / proof.before.file
    for file, expected in ((source, proof.before.sha256), *zip((first, *rest), proof.after.values(), strict=True)):
        if not file.is_file():
            raise ShrinkError(f"{path}: it is about {file}, and there is no such file. Put the files where they were.")
        if sha256_of(file) != expected:
            raise ShrinkError(f"{path}: {file.name} is not the file of this proof: its SHA-256 differs.")
    before, after = _opened(source, proof.before.model, proof.before.options), load(first)
    runs = tuple(_compared(before, after, run) for run in proof.runs)
    versions = {name: _version(name) for name in _PACKAGES} | {"campfire_fx": __version__}
    again = Proof(proof.before, proof.after, runs, proof.tolerance, versions)
    _check(again, source, first, before, after)
    return proof, again


def read(path: Path) -> Proof:
    """Read a proof.

    Raises:
        ShrinkError: it is none.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["form"] != _FORM:
            raise ShrinkError(f"{path}: it has format {facts['form']}, this version reads {_FORM}. Make it again.")
        runs = [
            Run(tuple(map(tuple, run["shapes"])), tuple(run["dtypes"]), run["seed"], run["difference"])
            for run in facts["runs"]
        ]
        return Proof(Source(**facts["before"]), facts["after"], tuple(runs), facts["tolerance"], facts["versions"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShrinkError(
            f"{path}: it was not written by `shrink --proof` ({type(error).__name__}). Make it again."
        ) from error


def _opened(source: Path, model: str | None, options: Mapping[str, Any]) -> Callable[..., Any]:
    if source.suffix.lower() == ".onnx":
        return OnnxModel(source)
    network, _ = source_network(source, "prove", model, dict(options))
    if isinstance(network, SparseModel):
        network.finalize()
    for module in network.modules():
        module.training = False  # not by eval(), which .pt2 modules refuse
    return network


def _compared(before: Callable[..., Any], after: Callable[..., Any], run: Run) -> Run:
    return replace(run, difference=difference(after, run_once(before, run.inputs(), {})))


def _check(proof: Proof, source: Path, written: Path, before: Callable[..., Any], after: Callable[..., Any]) -> None:
    if proof.worst <= proof.tolerance:
        return
    model = before if isinstance(before, torch.nn.Module) else source
    runs = [run_once(before, run.inputs(), {}) for run in proof.runs]
    if not (isinstance(after, OnnxModel) and rounds_alone(after, written, model, runs, proof.tolerance)):
        raise ShrinkError(
            f"{written} gives other outputs than {source}: relative difference {proof.worst:.1e}, allowed "
            f"{proof.tolerance:.0e}. {faintness(runs[0]) or 'Please report it.'}"
        )


def _from(proof: Path, file: Path) -> str:
    return Path(os.path.relpath(file, proof.parent)).as_posix()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
