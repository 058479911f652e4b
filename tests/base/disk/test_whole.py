"""Files are written whole or not at all, and a full disk is told in one sentence."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from campfire_fx.base.disk.whole import PARTIAL, write_bytes, write_text, write_whole
from campfire_fx.base.errors import ExportError, ReportError, TrainError

KINDS = [".ckpt", ".run", ".cache", ".csv", ".pt2", ".pt", ".pth", ".safetensors"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit on the size of files")
def test_a_full_disk_is_told_for_every_kind_of_file_and_leaves_what_was_there(tmp_path: Path) -> None:
    """torch's archive writer ends the interpreter where it meets the error itself."""
    kinds = [*KINDS, ".onnx"] if importlib.util.find_spec("onnxscript") else KINDS
    script = Path(__file__).with_name("full_disk.py")
    command = [sys.executable, str(script), str(tmp_path), *kinds]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    lines = [line.split("\t") for line in run.stdout.splitlines()]
    assert [kind for kind, *_ in lines] == kinds
    for kind, told, left in lines:
        assert "it cannot be written (File too large). Make room, or choose another place." in told, (kind, told)
        assert left == "as it was", (kind, left)


@pytest.mark.parametrize("moment", ["first", "last", "close"])
def test_an_error_at_any_write_is_the_error_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """A writer that goes on after an error, as C++ does, is not what is believed."""
    path = tmp_path / "x"
    path.write_bytes(b"old")
    written = 0

    def write(file: Any) -> None:
        nonlocal written
        for part in (b"one", b"two", b"three"):
            written += file.write(part)

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: bytes) -> int:
            if {"first": b"one", "last": b"three"}.get(moment) == bytes(data):
                raise OSError(28, "No space left on device")
            return self.file.write(data)

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *mode: Full(opened(self, *mode)))
    if moment == "close":
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ReportError, match=r"File at .*x: it cannot be written \(No space left on device\)\."):
        write_whole(path, write, ReportError)
    monkeypatch.undo()
    assert written == 11
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("x", b"old")]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_text(tmp_path / "link", "new", TrainError)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"


def test_a_name_as_long_as_the_system_allows(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("n" * 255), b"x", ExportError)
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]


def test_bytes_of_a_path_that_are_no_text_are_written_so_that_they_can_be_read(tmp_path: Path) -> None:
    write_text(tmp_path / "x", os.fsdecode(b"runs/\xff"), TrainError)
    assert (tmp_path / "x").read_text(encoding="utf-8") == "runs/\\xff"


def test_two_threads_write_one_file(tmp_path: Path) -> None:
    texts = [letter * 100_000 for letter in "ab"]
    threads = [threading.Thread(target=write_text, args=(tmp_path / "x", text, TrainError)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "x").read_text() in texts
    assert not list(tmp_path.glob(f"{PARTIAL}*"))
