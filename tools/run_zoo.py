"""Shrink every model of torchvision with random zeros in it, and show how exact, how small and how fast.

    python tools/run_zoo.py                      all models; those already in the JSON file are not run again
    python tools/run_zoo.py resnet50 'swin_*'    some
    python tools/run_zoo.py --residual gate --json gate.json

Each model runs in a process of its own, so that one that fails or needs much memory does not end the run.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: E402
from rich.table import Table  # noqa: E402

Result = dict[str, Any]


def main() -> int:
    """Run what is asked for and still missing; returns 0 if all that was run is exact."""
    options = parse()
    if options.one:
        return run_here(options.one, options.residual)
    path = Path(options.json)
    results: dict[str, Result] = {} if options.again or not path.exists() else json.loads(path.read_text())
    wanted = [name for name in all_names() if any(fnmatch.fnmatch(name, pattern) for pattern in options.names)]
    console = Console()
    columns = (SpinnerColumn(), TextColumn("{task.completed}/{task.total} {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(wanted))
        for name in wanted:
            progress.update(task, description=name)
            if name not in results or (options.failed and not results[name]["exact"]):
                results[name] = run_apart(name, options.residual, options.timeout)
                path.write_text(json.dumps(results, indent=1, sort_keys=True))
            progress.advance(task)
    shown = {name: results[name] for name in wanted}
    console.print(table(shown))
    console.print(summary(shown))
    return 0 if all(result["exact"] for result in shown.values()) else 1


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["*"], help="names or patterns (default: all)")
    parser.add_argument("--residual", choices=["union", "gate"], default="union")
    parser.add_argument("--json", default="zoo.json", help="where results are kept and taken up again")
    parser.add_argument("--again", action="store_true", help="run even what is in the JSON file")
    parser.add_argument("--failed", action="store_true", help="run again what was not exact")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one model")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def all_names() -> list[str]:
    """Return the names of all models, in the order of the registry."""
    from tests.zoo.specimens import names

    return names()


def run_here(name: str, residual: str) -> int:
    """Measure one model in this process and print the result as JSON."""
    import torch

    from tests.zoo.measure import measure

    torch.set_num_threads(1)
    found = measure(name, residual)
    print(json.dumps(asdict(found) | {"left": found.left, "exact": found.exact}))
    return 0


def run_apart(name: str, residual: str, timeout: float) -> Result:
    """Measure one model in another process; what goes wrong becomes its result."""
    command = [sys.executable, str(Path(__file__).resolve()), "--one", name, "--residual", residual]
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
    return {"name": name, "exact": False, "failure": reason, **empty}


def table(results: dict[str, Result]) -> Table:
    """Show one row for each model."""
    shown = Table(title="Shrinking torchvision", caption="difference: max |a - b| / max |a| over outputs and sizes")
    shown.add_column("model", no_wrap=True)
    for title in ("parameters", "left", "float32", "float64", "seconds", "rewritten"):
        shown.add_column(title, justify="right", no_wrap=True)
    shown.add_column("what stays, and why", overflow="fold")
    for name, result in results.items():
        style = "" if result["exact"] else "red"
        if result["failure"]:
            shown.add_row(name, "", "", "", "", "", "", result["failure"], style=style)
            continue
        differences = [f"{result['differences'].get(dtype, float('nan')):.0e}" for dtype in ("float32", "float64")]
        size, left = f"{result['before'] / 1e6:.1f} M", f"{result['left']:.0%}"
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(result["pins"].items(), key=lambda p: -p[1]))
        seconds = f"{result['seconds']:.1f}"
        shown.add_row(name, size, left, *differences, seconds, str(result["repairs"]), why, style=style)
    return shown


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
