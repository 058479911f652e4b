"""`campfire-fx verify`: check a proof of `shrink --proof` again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from campfire_fx.app import proof
from campfire_fx.app.cli.options import AsJson
from campfire_fx.app.cli.terminal import show, show_json


def verify_command(
    path: Annotated[
        Path,
        typer.Argument(metavar="PROOF", help="The .json of `shrink --proof`. Its two files must still be there."),
    ],
    as_json: AsJson = False,
) -> None:
    """Check a proof of `shrink` again: the same two files, the same outputs.

    It fails with exit code 2 if a file has changed, or if the outputs differ by more than rounding.

    **Example**

        campfire-fx verify proof.json
    """
    said, found = proof.check_again(path)
    if as_json:
        show_json({"proof": dataclasses.asdict(said), "found": dataclasses.asdict(found)})
        return
    files = ", ".join(found.after)
    shapes = "; ".join(", ".join("x".join(map(str, shape)) for shape in run.shapes) for run in found.runs)
    show(f"{found.before.file} and {files} are the files of the proof.")
    show(
        f"Their outputs differ by at most {found.worst:.1e} of the largest (proof: {said.worst:.1e}; allowed: "
        f"{found.tolerance:.0e}), for inputs of {shapes}."
    )
