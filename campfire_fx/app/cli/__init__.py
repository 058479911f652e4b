"""The command line `campfire-fx`."""

from __future__ import annotations

import io
import logging
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from campfire_fx.app.cli.accelerating import accelerate_command
from campfire_fx.app.cli.attacking import attack_command
from campfire_fx.app.cli.benching import bench_command
from campfire_fx.app.cli.exporting import export_command
from campfire_fx.app.cli.inspecting import inspect_command
from campfire_fx.app.cli.listing import regimes_command
from campfire_fx.app.cli.reporting import report_command
from campfire_fx.app.cli.shrinking import shrink_command
from campfire_fx.app.cli.sweeping import sweep_command
from campfire_fx.app.cli.terminal import console, errors
from campfire_fx.app.cli.training import train_command
from campfire_fx.app.cli.verifying import verify_command
from campfire_fx.app.train.ranks import rank_here
from campfire_fx.app.train.stopping import Stopped
from campfire_fx.base.errors import CampfireError
from campfire_fx.base.version import __version__


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
        return name, command, given

    def invoke(self, ctx: Any) -> Any:  # a click Context, of typer's own click where it brings one
        try:
            return super().invoke(ctx)
        except CampfireError as error:
            told = str(error).replace("example_inputs=...", "--example")  # what it is called here
            where = f"[process {rank_here()}] " if rank_here() else ""  # the first one's needs no name
            if isinstance(error, Stopped):
                if not where:
                    errors.print(told, style="bold", soft_wrap=True)
                raise typer.Exit(error.exit_code) from None
            errors.print(f"{where}Error: {told}", style="bold red", soft_wrap=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    name="campfire-fx",
    cls=_Commands,
    rich_markup_mode="markdown",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command("inspect")(inspect_command)
app.command("train")(train_command)
app.command("sweep", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(sweep_command)
app.command("shrink")(shrink_command)
app.command("verify")(verify_command)
app.command("accelerate")(accelerate_command)
app.command("export")(export_command)
app.command("bench")(bench_command)
app.command("attack")(attack_command)
app.command("report")(report_command)
app.command("regimes")(regimes_command)


def _print_version(asked: bool) -> None:
    if asked:
        console.print(f"campfire-fx {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done, step by step.")] = False,
    version: Annotated[  # noqa: ARG001  the callback does the work
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Train a CNN structurally sparse, then get back a smaller dense CNN with exactly the same output.

    Each command explains itself: `campfire-fx train --help`.
    """
    if verbose:
        from rich.logging import RichHandler

        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=errors)])


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may be no UTF-8
    app()
