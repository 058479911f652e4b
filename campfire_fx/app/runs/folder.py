"""A run folder, read: results, log, the sparse network and what became of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campfire_fx.app.robustness import AttackRecord
from campfire_fx.app.train.checkpoint import SUFFIX, Checkpoint, read, restore
from campfire_fx.app.train.observers import Epoch
from campfire_fx.app.train.training_log import LOG, read_log
from campfire_fx.base.errors import ReportError
from campfire_fx.cost.runtime_times import BenchRecord
from campfire_fx.shrink.slim import SlimModel
from campfire_fx.training.model import SparseModel

RESULTS, ATTACK, BENCH = "results.json", "attack.json", "bench.json"


@dataclass(frozen=True, slots=True, eq=False)
class RunFolder:
    """What a run folder holds; None, or empty, where the run did not come so far.

    Attributes:
        folder: where it lies.
        results: of results.json: the final table, and where it has them the settings.
        log: the epochs of each network, by name.
        checkpoint: of the sparse network.
        sparse: that network.
        slim: what it shrinks to; shrunk again and proven again, not read.
        attack: what the last attack on the run found.
        bench: what its files took in runtimes, when they were timed last.
    """

    folder: Path
    results: Mapping[str, Any]
    log: Mapping[str, tuple[Epoch, ...]]
    checkpoint: Checkpoint | None
    sparse: SparseModel | None
    slim: SlimModel | None
    attack: AttackRecord | None
    bench: BenchRecord | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the run was told; empty where it was not recorded."""
        return self.results.get("settings", {})


def read_run(folder: Path, model: str | None = None) -> RunFolder:
    """Read all that the training command has written into a folder.

    Args:
        folder: its --output.
        model: package.module:factory of a run whose model is the user's own code; that code is run.

    Raises:
        ReportError: it is no run folder, or its results or its log cannot be read.
        TrainError: its checkpoint cannot be read.
    """
    check_folder(folder)
    results = read_results(folder)
    path = folder / f"sparse{SUFFIX}"
    checkpoint = read(path) if path.exists() else None
    sparse = restore(checkpoint, model) if checkpoint is not None else None
    if not isinstance(sparse, SparseModel):
        sparse = None
    slim = sparse.shrink(results.get("settings", {}).get("residual", "union")) if sparse is not None else None
    log, attack = folder / LOG, folder / ATTACK
    return RunFolder(
        folder,
        results,
        read_log(log) if log.exists() else {},
        checkpoint,
        sparse,
        slim,
        AttackRecord.from_json(attack.read_bytes()) if attack.exists() else None,
        read_bench(folder / BENCH) if (folder / BENCH).exists() else None,
    )


def read_bench(path: Path) -> BenchRecord:
    """Read the record that `campfire-fx bench` wrote into a run folder.

    Raises:
        ReportError: it is something else.
    """
    try:
        return BenchRecord.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise ReportError(f"Times at {path}: they cannot be read ({error!r}). Run campfire-fx bench again.") from error


def check_folder(folder: Path) -> None:
    """Raise a ReportError unless a folder holds something of the training command."""
    if not folder.is_dir():
        raise ReportError(f"Run folder {folder}: there is no such folder. Give the --output of campfire-fx train.")
    if not any((folder / name).exists() for name in (RESULTS, LOG, f"sparse{SUFFIX}", f"dense{SUFFIX}")):
        raise ReportError(
            f"Run folder {folder}: nothing in it was written by campfire-fx train. Give the --output of a run."
        )


def read_results(folder: Path) -> dict[str, Any]:
    """Return what results.json holds, or nothing where the run has not come to its end.

    Raises:
        ReportError: the file holds something else.
    """
    path = folder / RESULTS
    if not path.exists():
        return {}
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"Results at {path}: they are not JSON ({error}). Train again, or move the file.") from error
    if not isinstance(results, dict):
        raise ReportError(f"Results at {path}: they are not those of campfire-fx train. Move the file.")
    return results
