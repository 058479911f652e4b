"""A launcher for clusters: submitit hands each training to Slurm, or tries the same on this machine."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campfire_fx.app.sweep.launch import LOG, Ended, last_line
from campfire_fx.app.sweep.runs import Run
from campfire_fx.base.disk.whole import told_as
from campfire_fx.base.errors import TrainError
from campfire_fx.base.hints import install_command

_LOOK = 5.0  # seconds between two looks at what has ended


@dataclass(frozen=True, slots=True)
class Submitit:
    """Jobs of submitit, each one training; what it writes of its own is in `folder`.

    Attributes:
        folder: for submitit's files; all machines must see it, and the folder of the sweep.
        at_once: how many jobs at a time.
        threads: CPU cores of each.
        parameters: of submitit's `AutoExecutor`: "cluster" ("slurm", "local"; None: what is there) and what
            `update_parameters` takes, as slurm_partition or timeout_min.
    """

    folder: Path
    at_once: int
    threads: int = 1
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if importlib.util.find_spec("submitit") is None:
            raise TrainError(f"--launcher submitit: it is not installed. Run {install_command('slurm')}.")

    def launch(self, runs: Sequence[Run]) -> Generator[Ended, None, None]:
        """See `Launcher`."""
        began = time.perf_counter()
        executor = self._executor()
        with told_as(TrainError, self.folder, "Folder"), executor.batch():
            jobs = [executor.submit(train_here, run.arguments, run.folder / LOG) for run in runs]
        left = dict(zip(jobs, runs, strict=True))
        try:
            while left:
                ended = [job for job in left if job.done()]
                for job in ended:
                    run = left.pop(job)
                    failure = job.exception()
                    code = -1 if failure is not None else job.result()
                    said = last_line(run.folder / LOG) if failure is None else str(failure).strip().splitlines()[-1]
                    yield Ended(run, code, time.perf_counter() - began, said)
                if left and not ended:
                    time.sleep(_LOOK)
        finally:
            for job in left:
                with suppress(Exception):  # it may have ended by itself
                    job.cancel()

    def _executor(self) -> Any:
        import submitit

        wishes = dict(self.parameters)
        executor = submitit.AutoExecutor(folder=self.folder, cluster=wishes.pop("cluster", None))
        usual = {"name": "campfire-fx", "cpus_per_task": self.threads, "slurm_array_parallelism": self.at_once}
        try:
            executor.update_parameters(**usual | wishes)
        except (NameError, ValueError, AssertionError, TypeError) as error:
            raise TrainError(
                f"--launcher-option: submitit does not take it ({error}). See its documentation."
            ) from error
        return executor


def train_here(arguments: Sequence[str], log: Path) -> int:
    """Run `campfire-fx` on the machine that this job was given; return its exit code."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as said:
        command = [sys.executable, "-m", "campfire_fx", *arguments]
        return subprocess.run(command, stdout=said, stderr=subprocess.STDOUT, check=False).returncode
