"""All commands: help that a newcomer can follow, and one clean line for what goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import campfire_fx
from campfire_fx.app.cli import COMMANDS, command_named
from campfire_fx.app.cli.panels import PANELS
from campfire_fx.base.errors import CaptureError


def test_the_commands_are_listed(run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert all(f"{name} " in result.stdout and told.split()[0] in result.stdout for name, (_, told) in COMMANDS.items())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"campfire-fx {command}" in result.stdout.split("Example")[1]
    assert "--json" in result.stdout


def test_version(run) -> None:
    assert run("--version").stdout == f"campfire-fx {campfire_fx.__version__}\n"


COMPLETE = {"_CAMPFIRE_FX_COMPLETE": "complete_bash", "COMP_WORDS": "campfire-fx re", "COMP_CWORD": "1"}


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [(["--version"], {}, campfire_fx.__version__), (["--help"], {}, "shrink"), ([], COMPLETE, "report\nregimes")],
    ids=["version", "help", "completion"],
)
def test_what_needs_no_torch_imports_none(arguments: list[str], environment: dict[str, str], expected: str) -> None:
    code = "import sys, atexit; atexit.register(lambda: sys.stderr.write(str('torch' in sys.modules)));"
    code += "sys.argv[0] = 'campfire-fx'; from campfire_fx.app.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert expected in done.stdout and done.stderr == "False"


def test_options_are_completed() -> None:
    words = {**COMPLETE, "COMP_WORDS": "campfire-fx shrink --fold", "COMP_CWORD": "2"}
    code = "import sys; sys.argv[0] = 'campfire-fx'; from campfire_fx.app.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | words
    )
    assert done.stdout.split() == ["--fold-norms"]


@pytest.mark.parametrize("command", PANELS)
def test_every_option_has_its_panel(run, command: str) -> None:
    named = [name for names in PANELS[command].values() for name in names.split()]
    options = {param.name for param in command_named(command).params if param.param_type_name == "option"}
    assert sorted(named) == sorted(options), "each option has one panel in campfire_fx/app/cli/panels.py"
    assert all(f"{panel} ─" in run(command, "--help").stdout for panel in PANELS[command])


def test_the_list_says_what_the_commands_say() -> None:
    """A command's entry is loaded apart from it; each holds a command, with the options of its function."""
    for name in COMMANDS:
        assert command_named(name).name == name and len(command_named(name).params) > 1 and command_named(name).help


def test_an_error_is_one_line_on_stderr(run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Model at layer1.[0]: " + 40 * "very " + "long. Mend it."

    def broken(*_: object, **__: object) -> None:
        raise CaptureError(text)

    monkeypatch.setattr("campfire_fx.app.cli.inspecting.build_model", broken)
    result = run("inspect", "resnet18")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == f"Error: {text}\n"


def test_names_are_printed_to_the_letter(run) -> None:
    assert run("inspect", "no_such:x:").stderr.startswith("Error: MODEL no_such:x:: it cannot be imported")


def test_what_is_asked_for_is_an_option_here(run) -> None:
    result = run("inspect", "squeezenet1_1", "--example", "1x3")
    assert result.exit_code == 2
    assert "Give --example that it runs on" in result.stderr


@pytest.mark.parametrize(("arguments", "text"), [
    (["inspect", "resnet18", "--example", "1x3xbig"], "is not a shape"),
    (["train", "--era", "8-24"], "is not an era"),
    (["shrink", "x.pt", "--model", "resnet18", "--option", "width"], "is not name=value"),
    (["train", "--residual", "split"], "split"),
])  # fmt: skip
def test_wrong_options_are_usage_errors(run, arguments: list[str], text: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert text in " ".join(result.stderr.split())


@pytest.mark.parametrize(("arguments", "text"), [
    (["inspect", "resnet5O"], "Did you mean 'resnet50'?"),
    (["shrink", "none.ckpt"], "there is no such file"),
    (["export", "none.safetensors", "x.onnx"], "there is no such file"),
    (["train", "--data", "nowhere"], "no such data set or folder"),
    (["train", "--epochs", "4", "--era", "2:9"], "ends after the last of 4 epochs"),
    (["train", "--epochs", "1", "--regime", "combind"], "combined"),
    (["train", "--epochs", "1", "--sparsity", "1.2"], "outside [0, 1)"),
])  # fmt: skip
def test_wrong_wishes_end_in_one_line(run, arguments: list[str], text: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert text in result.stderr


def test_the_command_is_installed() -> None:
    code = "from campfire_fx.app.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "train", "--data", "nowhere"], capture_output=True, check=False
    )
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr
