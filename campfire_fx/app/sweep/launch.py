"""Launchers: where the trainings of a sweep run. Here: in processes side by side on this machine."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from campfire_fx.app.sweep.runs import Run
from campfire_fx.base.disk.lock import wait_until_free
from campfire_fx.base.disk.whole import told_as
from campfire_fx.base.errors import TrainError

LOG = "train.log"  # in the folder of each run: what `campfire-fx train` said
_SAVES_SECONDS = 60.0  # what a killed sweep has left behind saves, and goes


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has ended: its exit code (0: it has finished), how long it took, and the last line that it said."""

    run: Run
    code: int
    seconds: float
    said: str = ""


class Launcher(Protocol):
    """Runs trainings; each is a command that goes on where an earlier one was stopped."""

    @property
    def at_once(self) -> int:
        """How many run at the same time, as far as is known."""

    def launch(self, runs: Sequence[Run]) -> Generator[Ended, None, None]:
        """Yield each run as it ends. When the iterator is closed, what still runs is stopped, and saves."""


@dataclass(frozen=True, slots=True)
class Local:
    """Processes on this machine, each with its own share of it.

    Attributes:
        at_once: how many; of several GPUs each has one in turn.
        threads: of each.
    """

    at_once: int
    threads: int = 1
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False)
    _ends: threading.Event = field(default_factory=threading.Event, compare=False)

    def launch(self, runs: Sequence[Run]) -> Generator[Ended, None, None]:
        """See `Launcher`."""
        places: queue.SimpleQueue[int] = queue.SimpleQueue()
        for place in range(self.at_once):
            places.put(place)
        pool = ThreadPoolExecutor(self.at_once)
        try:
            waiting = [pool.submit(self._one, run, places) for run in runs]
            for ended in as_completed(waiting):
                yield ended.result()
        finally:
            self._ends.set()
            pool.shutdown(wait=False, cancel_futures=True)
            with self._lock:
                for process in self._running:
                    process.terminate()
            pool.shutdown(wait=True)

    def _one(self, run: Run, places: queue.SimpleQueue[int]) -> Ended:
        began, place = time.perf_counter(), places.get()
        try:
            with told_as(TrainError, run.folder, "Folder"):
                run.folder.mkdir(parents=True, exist_ok=True)
            wait_until_free(run.folder, _SAVES_SECONDS)
            log = run.folder / LOG
            code = self._process(run, place, log)
            return Ended(run, code, time.perf_counter() - began, last_line(log))
        finally:
            places.put(place)

    def _process(self, run: Run, place: int, log: Path) -> int:
        with log.open("wb") as said, self._lock:
            if self._ends.is_set():
                return -1
            process = subprocess.Popen(
                [sys.executable, "-m", "campfire_fx.app.sweep.child", *run.arguments],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=self._environment(place),
                start_new_session=True,  # Ctrl-C is for the sweep, which then stops this one once
            )
            self._running.add(process)
        try:
            return process.wait()
        finally:
            with self._lock:
                self._running.discard(process)
            with suppress(OSError):
                assert process.stdin is not None  # it is a pipe
                process.stdin.close()

    def _environment(self, place: int) -> dict[str, str]:
        threads = str(self.threads)
        own = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
        if (devices := _devices()) and len(devices) > 1:
            own["CUDA_VISIBLE_DEVICES"] = devices[place % len(devices)]
        return {**os.environ, **own}


def useful_at_once(device: str, threads: int) -> int:
    """Return how many trainings fit this machine side by side: one a GPU, or one for each `threads` of its cores."""
    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def _devices() -> list[str]:
    """Return the names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    return [str(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []


def last_line(path: Path) -> str:
    """Return the last line of a log that says something."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
