"""`campfire-fx report`: a run folder in, one HTML page out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from campfire_fx.app.cli.options import AsJson, OwnModel
from campfire_fx.app.cli.terminal import show, show_json
from campfire_fx.app.runs.folder import read_run
from campfire_fx.app.runs.report import write_report
from campfire_fx.report.progress import progress


def report_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The --output folder of `train`.")],
    output: Annotated[Path | None, typer.Option(help="The page to write.", show_default="RUN/report.html")] = None,
    png: Annotated[Path | None, typer.Option(help="Also write each picture as PNG into this folder.")] = None,
    model: OwnModel = None,
    as_json: AsJson = False,
) -> None:
    """Write a report of a run in one HTML file: tables, curves, masks and channels.

    The page shows what is there: an unfinished run has no final table, a run without an attack no robustness. The
    sparse network is shrunk again for it, and proven again.

    **Examples**

        campfire-fx report runs/digits
        campfire-fx report runs/digits --output digits.html --png pictures
    """
    with progress("Drawing"):
        written = write_report(read_run(run, model), output or run / "report.html", pictures_folder=png)
    if as_json:
        show_json([str(path) for path in written])
        return
    more = f", and {len(written) - 1} pictures in {png}" if png is not None else ""
    show(f"Written: {written[0]}{more}.")
