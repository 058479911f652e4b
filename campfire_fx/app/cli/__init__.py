"""The command line `campfire-fx`."""

from __future__ import annotations

import functools
import importlib
import io
import logging
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from campfire_fx.app.cli.panels import lay_out
from campfire_fx.app.cli.terminal import console, errors
from campfire_fx.base.characters import PLAIN
from campfire_fx.base.errors import CampfireError
from campfire_fx.base.version import __version__

COMMANDS = {
    "inspect": ("inspecting", "Show a model's layers, sizes, and which channels depend on each other."),
    "train": ("training", "Train dense and sparse, shrink, verify, export, reload, and compare in one table."),
    "sweep": ("sweeping", "Train a grid of settings, and compare them in tables and one HTML page."),
    "shrink": ("shrinking", "Remove the channels that zeros made dead, and check that the output stays the same."),
    "verify": ("verifying", "Check a proof of `shrink` again: the same two files, the same outputs."),
    "accelerate": ("accelerating", "Find the fastest form of each layer on this CPU, skipping zeros where that pays."),
    "export": ("exporting", "Convert a model to another format; the file is loaded again and compared."),
    "bench": ("benching", "Time files and models side by side, in torch, ONNX Runtime, OpenVINO and MNN."),
    "attack": ("attacking", "Compare the accuracy of networks under FGSM attacks."),
    "report": ("reporting", "Write a report of a run in one HTML file: tables, curves, masks, channels."),
    "regimes": ("listing", "List and search the pruning methods (regimes)."),
}
"""The commands: the module that holds each, imported when it is called, and what the list of commands says of it."""

_CALLED_HERE = {"example_inputs=...": "--example", "input_names, output_names": "--input-name, --output-name"}
"""What errors of the library call arguments, and the options that they are here."""

_SETTINGS = {"sweep": {"allow_extra_args": True, "ignore_unknown_options": True}}


@functools.cache
def command_named(name: str) -> Any:
    """Return a command with its options."""
    module = importlib.import_module(f"{__name__}.{COMMANDS[name][0]}")
    alone = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_show_locals=False)
    alone.command(name, context_settings=_SETTINGS.get(name))(getattr(module, f"{name}_command"))
    command = typer.main.get_command(alone)
    lay_out(command)
    return command


class _Commands(TyperGroup):
    """Commands whose CampfireErrors end in one line and exit code 2, as wrong options do; a signal has its own code."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command, as always; but an empty text is no value of anything, and no file has it for its name."""
        name, command, given = super().resolve_command(ctx, args)
        for before, text in zip(("", *given), given, strict=False):
            option, equals, value = text.partition("=")
            if not text or (option.startswith("--") and equals and not value):
                told = option if text else before if before.startswith("-") else "argument"
                raise typer.BadParameter(f"{told}: the text given is empty. Give a value, or leave it out.")
        return name, command and command_named(command.name), given

    def invoke(self, ctx: Any) -> Any:  # a click Context, of typer's own click where it brings one
        try:
            return super().invoke(ctx)
        except CampfireError as error:
            raise typer.Exit(_tell(error)) from None


def _tell(error: CampfireError) -> int:
    """Say what went wrong, and return the exit code."""
    from campfire_fx.app.train.ranks import rank_here
    from campfire_fx.app.train.stopping import Stopped

    told = str(error)
    for name, option in _CALLED_HERE.items():
        told = told.replace(name, option)
    where = f"[process {rank_here()}] " if rank_here() else ""  # the first one's needs no name
    if isinstance(error, Stopped):
        if not where:
            errors.print(told, style="bold", soft_wrap=True)
        return error.exit_code
    errors.print(f"{where}Error: {told}", style="bold red", soft_wrap=True)
    return 2


app = typer.Typer(
    name="campfire-fx",
    cls=_Commands,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


def _listed() -> None:
    """Stand for a command in the list of commands."""


for _name, (_, _told) in COMMANDS.items():
    app.command(_name, help=_told)(_listed)


def _print_version(asked: bool) -> None:
    if asked:
        console.print(f"campfire-fx {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log each step.")] = False,
    version: Annotated[  # noqa: ARG001  the callback does the work
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Train a CNN structurally sparse, then get back a smaller dense CNN with exactly the same output.

    Options and examples of a command: `campfire-fx train --help`.
    """
    if verbose:
        from rich.logging import RichHandler

        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=errors)])


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAIN)  # a pipe may be no UTF-8, and a path neither
    app()
