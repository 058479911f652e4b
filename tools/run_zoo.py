"""Shrink every model of torchvision with random zeros in it, and show how exact, how small and how fast.

    python tools/run_zoo.py --all                every model; those already in the JSON file are not run again
    python tools/run_zoo.py resnet50 'swin_*'    some
    python tools/run_zoo.py --all --residual gate --json gate.json
    python tools/run_zoo.py --all --jobs 2 --page docs/zoo.md    and write the table as a page
    python tools/run_zoo.py --all --channel 0.5  instead: remove channels, one-shot, to half of the multiply-accumulates

Each model runs in a process of its own, so that one that fails or needs much memory does not end the run.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: E402
from rich.table import Table  # noqa: E402

Result = dict[str, Any]
_MOST_REASONS = 4  # in a row


def main() -> int:
    """Run what is asked for and still missing; returns 0 if all that was run is exact."""
    options = parse()
    if options.one:
        return run_here(options.one, options.residual, options.channel)
    path = Path(options.json or ("zoo.json" if options.channel is None else f"zoo_channel_{options.channel:g}.json"))
    results: dict[str, Result] = {} if options.again or not path.exists() else json.loads(path.read_text())
    patterns = ["*"] if options.all else options.names
    wanted = [name for name in all_names() if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    missing = [n for n in wanted if n not in results or (options.failed and not results[n]["exact"])]
    console = Console()
    for name, result in run_all(missing, options, console):
        results[name] = result
        path.write_text(json.dumps(results, indent=1, sort_keys=True))
    shown = {name: results[name] for name in wanted}
    console.print(table(shown) if options.channel is None else table_of_channels(shown, options.channel))
    console.print(summary(shown) if options.channel is None else summary_of_channels(shown))
    if options.page:
        Path(options.page).write_text(page(shown, options.residual))
    return 0 if all(result["exact"] for result in shown.values()) else 1


def run_all(missing: list[str], options: argparse.Namespace, console: Console) -> Iterator[tuple[str, Result]]:
    """Run the models named, `--jobs` at a time, and yield each result as it comes."""
    columns = (SpinnerColumn(), TextColumn("{task.completed}/{task.total} {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(options.jobs) as pool:
        task = progress.add_task("", total=len(missing))
        running = {pool.submit(run_apart, name, options): name for name in missing}
        for done in as_completed(running):
            progress.update(task, description=running[done], advance=1)
            yield running[done], done.result()


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="names or patterns")
    parser.add_argument("--all", action="store_true", help="every model of torchvision")
    parser.add_argument("--jobs", type=int, default=1, help="models that run at a time, each on one thread")
    parser.add_argument("--page", help="also write the table there, as Markdown")
    parser.add_argument("--residual", choices=["union", "gate"], default="union")
    parser.add_argument("--channel", type=float, metavar="PART", help="remove channels to this part of the MACs")
    parser.add_argument("--json", help="where results are kept and taken up again [zoo.json, zoo_channel_PART.json]")
    parser.add_argument("--again", action="store_true", help="run even what is in the JSON file")
    parser.add_argument("--failed", action="store_true", help="run again what was not exact")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one model")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.all or options.names or options.one):
        parser.error("name models, or say --all")
    if options.page and options.channel is not None:
        parser.error("--page is of the table without --channel")
    return options


def all_names() -> list[str]:
    """Return the names of all models, in the order of the registry."""
    from tests.zoo.specimens import names

    return names()


def run_here(name: str, residual: Literal["union", "gate"], channel: float | None) -> int:
    """Measure one model in this process and print the result as JSON."""
    import torch

    from tests.zoo.channels import prune
    from tests.zoo.measure import measure

    torch.set_num_threads(1)
    found = measure(name, residual) if channel is None else prune(name, channel)
    print(json.dumps(asdict(found) | {"left": found.left, "exact": found.exact}))
    return 0


def run_apart(name: str, options: argparse.Namespace) -> Result:
    """Measure one model in another process; what goes wrong becomes its result."""
    command = [sys.executable, str(Path(__file__).resolve()), "--one", name, "--residual", options.residual]
    if options.channel is not None:
        command += ["--channel", str(options.channel)]
    timeout = options.timeout
    start = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return failure(name, f"took more than {timeout:.0f} s")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        return failure(name, lines[-1])
    return json.loads(done.stdout.splitlines()[-1]) | {"total": time.perf_counter() - start}


def failure(name: str, reason: str) -> Result:
    """Return the result of a model that gave none."""
    empty = {"before": 0, "after": 0, "left": 1.0, "differences": {}, "seconds": 0.0, "pins": {}, "repairs": 0}
    empty |= {"refused": "", "difference": 0.0, "predicted": 1.0, "stays": {}}
    return {"name": name, "exact": False, "failure": reason, **empty}


def table(results: dict[str, Result]) -> Table:
    """Show one row for each model."""
    shown = Table(title="Shrinking torchvision", caption="difference: max |a - b| / max |a| over outputs and sizes")
    shown.add_column("model", no_wrap=True)
    for title in ("parameters", "left", "float32", "float64", "seconds", "rewritten"):
        shown.add_column(title, justify="right", no_wrap=True)
    shown.add_column("what stays, and why", overflow="fold", min_width=24)
    for name, result in results.items():
        style = "" if result["exact"] else "red"
        if result["failure"]:
            shown.add_row(name, "", "", "", "", "", "", result["failure"], style=style)
            continue
        shown.add_row(name, *cells(result), style=style)
    return shown


def cells(result: Result) -> list[str]:
    """Return one model's row, without its name."""
    differences = [f"{result['differences'].get(dtype, float('nan')):.0e}" for dtype in ("float32", "float64")]
    size, left = f"{result['before'] / 1e6:.1f} M", f"{result['left']:.0%}"
    return [size, left, *differences, f"{result['seconds']:.1f}", str(result["repairs"]), reasons(result["pins"])]


def reasons(pins: dict[str, int]) -> str:
    """Say how many channels stay for each reason, the most first."""
    sorted_pins = sorted(pins.items(), key=lambda pin: -pin[1])
    why = ", ".join(f"{count} {reason}" for reason, count in sorted_pins[:_MOST_REASONS])
    if len(pins) > _MOST_REASONS:
        others = sum(count for _, count in sorted_pins[_MOST_REASONS:])
        why += f", {others} for {len(pins) - _MOST_REASONS} other reasons"
    return why


def table_of_channels(results: dict[str, Result], part: float) -> Table:
    """Show one row for each model whose channels were removed to a part of its multiply-accumulates."""
    shown = Table(
        title=f"Channels to {part:g} of the MACs", caption="difference: of the outputs of masked and slim model"
    )
    shown.add_column("model", no_wrap=True)
    for title in ("parameters", "left", "MACs left", "difference", "seconds"):
        shown.add_column(title, justify="right", no_wrap=True)
    shown.add_column("what stays, and why", overflow="fold", min_width=24)
    for name, result in results.items():
        style = "" if result["exact"] else "red"
        if told := result["failure"] or result["refused"]:
            shown.add_row(name, "", "", "", "", "", told, style=style)
            continue
        size, left = f"{result['before'] / 1e6:.1f} M", f"{result['after'] / result['before']:.0%}"
        numbers = f"{result['left']:.4f}", f"{result['difference']:.0e}", f"{result['seconds']:.1f}"
        shown.add_row(name, size, left, *numbers, reasons(result["stays"]), style=style)
    return shown


def summary_of_channels(results: dict[str, Result]) -> str:
    """Say how many met the target."""
    exact = [result for result in results.values() if result["exact"]]
    refused = sum(bool(result["refused"]) for result in exact)
    worst = max((result["difference"] for result in exact), default=0.0)
    return (
        f"{len(exact) - refused} of {len(results)} exact and at the target as predicted, {refused} say that it cannot "
        f"be met; largest difference {worst:.1e}; {sum(result['seconds'] for result in exact):.0f} s"
    )


def page(results: dict[str, Result], residual: str) -> str:
    """Return the table as a page of the documentation."""
    rows = [f"| {name} | " + " | ".join(cells(r) if not r["failure"] else [r["failure"], *[""] * 6]) + " |"
            for name, r in results.items()]  # fmt: skip
    return "\n".join([PAGE.format(residual=residual, summary=summary(results)), *rows, ""])


PAGE = """# Every model of torchvision, shrunk

Random weights and BatchNorm statistics; half of all filters and a third of the other kernels are zeroed at random, and
in transformers rows of the linear layers too. `shrink(residual="{residual}")` then removes what became dead. The
columns float32 and float64 hold the largest difference between the outputs before and after, max |a - b| / max |a|,
at two image and batch sizes. These zeros are random: the table shows exactness and reach, not what training gives.
`tools/run_zoo.py --all --page docs/zoo.md` makes this page; seconds are those of one thread on a busy machine.

{summary}.

| model | parameters | left | float32 | float64 | seconds | rewritten operations | channels that stay, and why |
|---|---|---|---|---|---|---|---|"""


def summary(results: dict[str, Result]) -> str:
    """Say how many are exact, and what the worst are."""
    exact = [result for result in results.values() if result["exact"]]
    if not exact:
        return f"0 of {len(results)} exact"
    worst = {dtype: max(result["differences"].get(dtype, 0.0) for result in exact) for dtype in ("float32", "float64")}
    smaller = sum(result["left"] < 1 for result in exact)
    return (
        f"{len(exact)} of {len(results)} exact, {smaller} of them smaller; largest difference "
        f"{worst['float32']:.1e} in float32, {worst['float64']:.1e} in float64; "
        f"{sum(result['seconds'] for result in exact):.0f} s of shrinking"
    )


if __name__ == "__main__":
    sys.exit(main())
