"""Every option of every command, with wrong values: one sentence that says which, and exit code 2, never a traceback.

The commands and their options are those of the command line's own table, so that new ones are tried, too.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from campfire_fx.app import cli

COMMAND: Any = typer.main.get_command(cli.app)
COMMANDS: dict[str, Any] = {name: cli.command_named(name) for name in cli.COMMANDS}
WRONG = ("nonsense", "-1", "nan", "1e99", "", "a=b", "text.txt", "no/such/folder/file.bin")
TRAIN = (
    *("--data", "photos", "--model", "own_nets:tiny", "--networks", "sparse", "--epochs", "2", "--image-size", "10"),
    *("--batch", "4", "--device", "cpu", "--threads", "1", "--workers", "0", "--formats", "pt", "--held-out", "0"),
)
BASES: dict[str, tuple[str, ...]] = {
    "accelerate": ("run/sparse.ckpt", "--model", "own_nets:tiny", "--output", "fast.pt2", "--threads", "1"),
    "attack": ("run", "--model", "own_nets:tiny", "--epsilon", "0.1", "--images", "2"),
    "export": ("run/sparse.ckpt", "out.pt", "--model", "own_nets:tiny"),
    "bench": ("run/sparse.ckpt", "--model", "own_nets:tiny", "--runtime", "torch eager", "--repeats", "2"),
    "inspect": ("own_nets:tiny", "--example", "1x3x10x10"),
    "regimes": (),
    "report": ("run", "--model", "own_nets:tiny"),
    "shrink": ("run/sparse.ckpt", "--model", "own_nets:tiny", "--output", "slim.pt"),
    "sweep": ("--data", "photos", "--model", "own_nets:tiny", "--epochs", "4", "--image-size", "10", "--list"),
    "train": (*TRAIN, "--output", "another"),
    "verify": ("proof.json",),
}
"""Arguments with which each command runs."""
ANY_TEXT = {  # what takes any text, or the name of any file
    ("train", "--output"),
    ("train", "--data-root"),
    ("attack", "--output"),
    ("attack", "--data-root"),
    ("report", "--output"),
    ("report", "--png"),
    ("shrink", "--proof"),
    ("bench", "--csv"),
    ("sweep", "--output"),
}
RIGHT = {("inspect", "--graph"): ("text.txt",)}


def call(*arguments: str) -> tuple[int, str, str]:
    """Run the command line here; return exit code, and what it wrote. An error of no kind that is meant has code 1."""
    out, told, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
        try:
            COMMAND.main(list(arguments), "campfire-fx")
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception as error:  # noqa: BLE001  a traceback is what is looked for
            return 1, out.getvalue(), repr(error)
    return code, out.getvalue(), told.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with images, a model's code, a finished run and a text, in which commands run."""
    place, before = tmp_path_factory.mktemp("wrong"), Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "300")
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        os.chdir(place)
        try:
            _fill(place)
            yield place
        finally:
            os.chdir(before)


def _fill(place: Path) -> None:
    for number in range(16):
        path = place / "photos" / ("train", "test")[number % 2] / "ab"[number // 8] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10, 10), (16 * number, 0, 0)).save(path)
    (place / "text.txt").write_text("not what is asked for\n")
    (place / "own_nets.py").write_text(
        "from torch import nn\n"
        "def tiny(num_classes=2, width=4):\n"
        "    layers = nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 4, 3), nn.AdaptiveAvgPool2d(1)\n"
        "    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, num_classes))\n"
    )
    for arguments in (("train", *TRAIN, "--output", "run"), ("shrink", *BASES["shrink"], "--proof", "proof.json")):
        code, _, told = call(*arguments)
        assert code == 0, told


def options() -> list[tuple[str, str]]:
    found = [
        (name, option.opts[0])
        for name, command in COMMANDS.items()
        for option in command.params
        if option.param_type_name == "option" and not option.is_flag and not option.count
    ]
    assert len(found) > 70, "the options were not found"
    return found


def without(arguments: tuple[str, ...], option: str) -> list[str]:
    left = list(arguments)
    if option in left:
        del left[left.index(option) : left.index(option) + 2]
    return left


def faults_of(code: int, out: str, told: str, option: str = "", value: str = "") -> Iterator[str]:
    """Yield what is wrong with a refusal: it is one sentence on stderr, framed or not, that names option or value."""
    if code != 2:
        yield f"exit code {code}, printed {out[-200:]!r}, told {told[-200:]!r}"
        return
    lines = [line.strip("\u2502 ") for line in told.splitlines()]
    lines = [line for line in lines if line and not re.match(r"Usage: |Try |[\u256d\u2570]", line)]
    if len(lines) != 1:
        yield f"not one line: {told!r}"
    elif option and not any(name and name.lower() in lines[0].lower() for name in (option, option.lstrip("-"), value)):
        yield f"it does not say what is wrong: {lines[0]}"


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_values(place: Path, command: str) -> None:
    faults = []
    for name, option in options():
        known = (name, option) not in ANY_TEXT
        for value in WRONG if known else ("",):
            if name != command or value in RIGHT.get((name, option), ()):
                continue
            found = call(name, *without(BASES[name], option), option, value)
            faults += [f"{option} {value}: {fault}" for fault in faults_of(*found, option, value)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_arguments_and_typos(place: Path, command: str) -> None:
    wrong = [p for p in COMMANDS[command].params if p.param_type_name == "argument" and p.required]
    tried = [[value] * len(wrong) for value in ("no/such/folder/file.bin", "text.txt", "photos", "")] if wrong else []
    for arguments in (*tried, [*BASES[command], "--widht", "3"]):
        assert not list(faults_of(*call(command, *arguments))), arguments


@pytest.mark.parametrize("command", COMMANDS)
def test_plain_characters_where_the_output_is_no_utf8(
    place: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a pipe on Windows: no traceback, no escapes, and every command says something."""
    monkeypatch.setattr("campfire_fx.kernels.libraries.find_compiler", lambda: None)  # it takes long
    out, told = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    output = ("--overwrite",) if command == "train" else ()
    monkeypatch.setattr(sys, "argv", ["campfire-fx", command, *BASES[command], *output])
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told), pytest.raises(SystemExit) as end:
        cli.main()
    shown = [stream.buffer.getvalue().decode("ascii") for stream in (out, told) if stream.flush() is None]
    assert not end.value.code, shown
    assert len(shown[0]) > 20 and "\\u" not in "".join(shown) and "\\x" not in "".join(shown)
