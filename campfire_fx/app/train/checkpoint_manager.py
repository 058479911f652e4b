"""Run checkpoints: where a training stands, kept so that it goes on after a kill at any moment as if never stopped."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from campfire_fx.base.disk.archive import Unreadable, load_archive, save_archive
from campfire_fx.base.disk.whole import PARTIAL, told_as
from campfire_fx.base.errors import TrainError

logger = logging.getLogger(__name__)

_FORMAT = 1
_KEPT = 2
_FOLDER = "checkpoints"
_FINISHED = "results.json"
_OF_A_RUN = (
    _FINISHED, "dense.ckpt", "sparse.ckpt", "slim-from-scratch.safetensors", "attack.json", "attack.csv", "attack.png",
    "report.html", "skipped.txt", "trackers.json",
)  # fmt: skip
"""What other commands take for a part of the run; `train` writes the rest anew."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
FREE = frozenset({"rate", "fresh_rate", "momentum", "nesterov", "decay", "warm_up", "drops"})
"""What a resumed run may be given anew: a run whose loss was lost goes on with a lower learning rate."""


@dataclass(frozen=True, slots=True)
class Every:
    """How often a run is saved: every so many steps, or after so many seconds."""

    steps: int | None = None
    seconds: float | None = None


def every(text: str) -> Every:
    """Read "500" (steps), "90s", "10m" or "2h".

    Raises:
        TrainError: it is neither.
    """
    match = re.fullmatch(r"([1-9]\d*)([smh]?)", text)
    if match is None:
        raise TrainError(
            f"--checkpoint-every {text}: it is not an interval. Give steps, as 500, or a time, as 90s, 10m, 2h."
        )
    number, unit = int(match[1]), match[2]
    return Every(seconds=number * _UNITS[unit]) if unit else Every(steps=number)


USUAL = Every(seconds=300)


class CheckpointManager:
    """The run checkpoints of one output folder, `checkpoints/NAME-STEP.ckpt`; of each network the last two stay.

    Each is a file of `torch.save`, written beside its place, brought to the disk, and put there in one step, so a kill
    leaves the old ones or the old ones and the new one. The checksum in it finds what a disk has spoilt.

    Args:
        folder: the run's output folder.
        facts: what decides the result; a checkpoint of a run with others is refused, but for those in `FREE`.
        interval: how often `due` says so.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], interval: Every) -> None:
        self.folder = folder / _FOLDER
        self.facts = dict(facts)
        self.interval = interval
        self._saved = time.monotonic()
        self.last: Path | None = None

    def due(self, step: int) -> bool:
        """Return whether the run should be saved after its step of this number, counted from 1."""
        if self.interval.steps is not None:
            return step % self.interval.steps == 0
        return time.monotonic() - self._saved >= (self.interval.seconds or 0)

    def save(self, name: str, step: int, state: Mapping[str, Any]) -> Path:
        """Write the checkpoint of a network after `step` steps, and remove all but the last two of it.

        Raises:
            TrainError: a weight is not finite, so it would be of no use; or it cannot be written.
        """
        odd = next((key for key, value in state["model"].items() if not _finite(value)), None)
        if odd is not None:
            raise TrainError(f"{odd} of {name} after step {step}: it is not finite.{self.advice()}")
        path = self.folder / f"{name.replace(' ', '-')}-{step:09d}.ckpt"
        content = {"campfire_fx_run": _FORMAT, "facts": self.facts, "threads": torch.get_num_threads(), **state}
        with told_as(TrainError, self.folder, "Folder"):
            self.folder.mkdir(parents=True, exist_ok=True)
        save_archive(content, path, TrainError)
        for old in self._of(name)[:-_KEPT]:
            old.unlink(missing_ok=True)
        self._saved, self.last = time.monotonic(), path
        return path

    def restore(self, name: str) -> dict[str, Any] | None:
        """Read the last checkpoint of a network that can be read; None if there is none.

        One that cannot be read is named in the log and set aside as `.corrupt`, and the one before it is taken.

        Raises:
            TrainError: there are some, but none can be read; or it is of a run with other options.
        """
        found = self._of(name)
        for path in reversed(found):
            content = _read(path)
            if isinstance(content, str):
                logger.warning("Checkpoint at %s: it is corrupt (%s), so the one before it is used.", path, content)
                path.replace(path.with_suffix(".corrupt"))
                continue
            self._check(content["facts"], path)
            self.last, self._saved = path, time.monotonic()
            return content
        if found:
            raise TrainError(
                f"Checkpoints in {self.folder}: none of {name} can be read. Start over with --resume never."
            )
        return None

    def advice(self) -> str:
        """Say where the last good checkpoint is, and how to go on from it with a lower learning rate."""
        if self.last is None:
            return " There is no checkpoint yet. Start over with a lower --learning-rate."
        last = f" The last good checkpoint is {self.last}."
        return f"{last} Give a lower --learning-rate and --resume auto, which goes on from it."

    def _of(self, name: str) -> list[Path]:
        pattern = re.compile(rf"{re.escape(name.replace(' ', '-'))}-\d+\.ckpt")
        return sorted(path for path in self.folder.glob("*.ckpt") if pattern.fullmatch(path.name))

    def _check(self, facts: Mapping[str, Any], path: Path) -> None:
        other = [name for name in self.facts if facts.get(name) != self.facts[name]]
        for name in other:
            if name in FREE:
                logger.warning("Resuming %s: %s was %s and is %s now.", path, name, facts.get(name), self.facts[name])
                continue
            raise TrainError(
                f"Checkpoint at {path}: its run had {name.replace('_', ' ')} {facts.get(name)}, this one has"
                f" {self.facts[name]}. Give the same options, another --output, or --resume never to start over."
            )


def check_output(folder: Path, resume: str | None) -> None:
    """Raise a TrainError if an output folder is none, or holds a run and nobody said what to do with that."""
    if folder.exists() and not folder.is_dir():
        raise TrainError(f"--output {folder}: it is a file. Give a folder, which is made if it is not there.")
    left = sorted((folder / _FOLDER).glob("*.ckpt"))
    if resume is None and (folder / _FINISHED).exists():
        raise TrainError(
            f"Output folder {folder}: it holds a finished run. Give --overwrite to replace it, or another --output."
        )
    if left and resume is None:
        raise TrainError(
            f"Output folder {folder}: it holds an unfinished run ({left[-1].name})."
            f" Give --resume auto to go on, --resume never to start over, or another --output."
        )


def prepare(folder: Path, resume: str | None) -> None:
    """Make the output folder ready for a run.

    Args:
        folder: made if it is not there.
        resume: "auto" keeps what a run left there; "never" removes it; None: there is to be none.

    Raises:
        TrainError: the folder cannot be made, or it holds a run and nobody said what to do.
    """
    check_output(folder, resume)
    left = (folder / _FOLDER).glob("*.ckpt")
    with told_as(TrainError, folder, "Folder"):
        folder.mkdir(parents=True, exist_ok=True)
        for path in [*folder.glob(f"{PARTIAL}*"), *(folder / _FOLDER).glob(f"{PARTIAL}*")]:
            if path.is_dir():  # of an export
                shutil.rmtree(path)
            else:
                path.unlink()
        if resume != "auto":
            for path in [*left, *(folder / _FOLDER).glob("*.corrupt"), *(folder / name for name in _OF_A_RUN)]:
                path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | str:
    """Return the content of a run checkpoint, or why it cannot be read."""
    try:
        content = load_archive(path)
    except Unreadable as error:
        return str(error)
    if not isinstance(content, dict) or content.get("campfire_fx_run") != _FORMAT:
        return "it holds something else"
    return content


def _finite(value: object) -> bool:
    return not isinstance(value, Tensor) or not value.is_floating_point() or bool(value.isfinite().all())
