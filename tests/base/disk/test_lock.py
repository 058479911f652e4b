"""One live process in a folder; the lock of a dead one is nobody's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from campfire_fx.base.disk.lock import alone_in
from campfire_fx.base.errors import TrainError

HOLD = """
import sys
from pathlib import Path
from campfire_fx.base.disk.lock import alone_in
from campfire_fx.base.errors import TrainError
with alone_in(Path(sys.argv[1]), TrainError):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_process_is_told_who_is_at_work_and_comes_in_when_that_one_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        told = rf"Folder .*run: process {other.pid} on .* is at work in it\. Wait for it, or give another folder\."
        with pytest.raises(TrainError, match=told), alone_in(folder, TrainError):
            pass
        other.kill()
    with alone_in(folder, TrainError):
        assert str(os.getpid()) in (folder / ".lock-holder").read_text()
    assert not (folder / ".lock-holder").exists()


def test_it_is_free_after_the_block_and_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), alone_in(tmp_path, TrainError):
            raise ZeroDivisionError


def test_a_second_run_in_the_same_process_is_kept_out(tmp_path: Path) -> None:
    with (
        alone_in(tmp_path, TrainError),
        pytest.raises(TrainError, match=f"process {os.getpid()} on"),
        alone_in(tmp_path, TrainError),
    ):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(TrainError, match=r"Folder at .*file: it cannot be written \(File exists\)"),
        alone_in(tmp_path / "file", TrainError),
    ):
        pass


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("campfire_fx.base.disk.lock.FileLock.acquire", none)
    with alone_in(tmp_path, TrainError):
        assert "its file system has no locks" in caplog.text
