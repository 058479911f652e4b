"""Libraries compiled at first use: kept by what they depend on, and made again whatever happens to the cache."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from campfire_fx.kernels import compiler, libraries
from campfire_fx.kernels.libraries import CannotCompileError, library_of

ROOT = Path(__file__).parents[2]
SOURCE = 'extern "C" int answer() { return 42; }\n'
MANY = """
import sys, ctypes
from pathlib import Path
from campfire_fx.kernels.libraries import library_of
print(library_of(Path(sys.argv[1]), lambda functions: functions.answer() == 42).functions.answer())
"""

needs_compiler = pytest.mark.skipif(compiler.find_compiler() is None, reason="this machine has no C++ compiler")


def is_right(functions: ctypes.CDLL) -> bool:
    return functions.answer() == 42


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAMPFIRE_FX_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "answer.cpp"
    path.write_text(SOURCE)
    return path


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "libraries").glob(f"answer-*{compiler.SUFFIX}"))


def count_compilations(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    done: list[Path] = []

    def counted(*given: object) -> object:
        done.append(given[1])  # type: ignore[arg-type]
        return compiler.compile_library(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(libraries, "compile_library", counted)
    return done


@needs_compiler
def test_it_is_compiled_once(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = count_compilations(monkeypatch)
    first, second = library_of(source, is_right), library_of(source, is_right)
    assert first.functions.answer() == second.functions.answer() == 42
    assert first.compiler == second.compiler != ""
    assert len(done) == len(kept(tmp_path)) == 1
    source.write_text(SOURCE.replace("42", "43"))
    assert library_of(source, lambda functions: functions.answer() == 43).functions.answer() == 43
    assert len(done) == len(kept(tmp_path)) == 2


@needs_compiler
@pytest.mark.parametrize("spoil", ["cut", "overwritten", "no note", "a note of nothing", "an empty file", "a folder"])
def test_what_is_spoilt_is_compiled_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    library_of(source, is_right)
    (path,) = kept(tmp_path)
    note = path.with_suffix(".json")
    whole = path.read_bytes()
    path.unlink()  # this process has it loaded
    if spoil == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif spoil == "overwritten":
        path.write_bytes(whole[:5000] + bytes(255 - one for one in whole[5000:5100]) + whole[5100:])
    elif spoil == "an empty file":
        path.write_bytes(b"")
    elif spoil == "a folder":
        path.mkdir()
    else:
        path.write_bytes(whole)
        note.unlink() if spoil == "no note" else note.write_text("[]")
    done = count_compilations(monkeypatch)
    assert library_of(source, is_right).functions.answer() == 42
    assert len(done) >= 1


@needs_compiler
def test_another_processor_compiles_anew(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library_of(source, is_right)
    monkeypatch.setattr(libraries, "processor_features", lambda: "another processor")
    done = count_compilations(monkeypatch)
    library_of(source, is_right)
    assert len(done) == 1 and len(kept(tmp_path)) == 2


@needs_compiler
def test_a_cache_that_cannot_be_written_is_no_error(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CAMPFIRE_FX_CACHE", str(tmp_path / "file" / "cache"))
    assert library_of(source, is_right).functions.answer() == 42


@needs_compiler
def test_many_processes_at_once(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", MANY, str(source)]
    runs = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [run.communicate(timeout=120)[0].strip() for run in runs] == ["42"] * 2
    assert len(kept(tmp_path)) == 1


def test_without_a_compiler_it_says_what_to_do(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = library_of(source, is_right) if compiler.find_compiler() else None
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    if known is not None:  # what a compiler has left serves without it
        assert library_of(source, is_right).compiler == known.compiler
    monkeypatch.setenv("CAMPFIRE_FX_CACHE", str(tmp_path / "empty"))
    with pytest.raises(CannotCompileError, match=r"There is no C\+\+ compiler: .*ziglang>="):
        library_of(source, is_right)


@needs_compiler
def test_a_compiler_that_fails_is_quoted(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source.write_text("this is no C++\n")
    with pytest.raises(CannotCompileError, match=r"answer.cpp: .* could not build a library .*error.*CXX"):
        library_of(source, is_right)
    source.write_text(SOURCE)
    with pytest.raises(CannotCompileError, match="does not compute what it should"):
        library_of(source, lambda functions: functions.answer() == 43)


@needs_compiler
def test_the_compiler_that_is_named_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = compiler.find_compiler()
    assert found is not None
    mine = tmp_path / "my compiler"
    mine.symlink_to(shutil.which(found.command[0]) or "")
    monkeypatch.setenv("CXX", f"'{mine}' -DX=1")
    named = compiler.find_compiler()
    assert named is not None and named.command == (str(mine), "-DX=1")
    monkeypatch.setenv("CXX", os.devnull)
    assert compiler.find_compiler() == found
