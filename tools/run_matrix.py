"""Run the quick tests with the oldest versions that are supported, with the lock and with the newest, by Python.

    tools/matrix                                # oldest on the lowest Python; lock and newest on every one at hand
    tools/matrix --cells oldest-3.10 newest-3.13
    tools/matrix --remove                       # each environment goes when its tests are through: disk for one alone
    tools/matrix --fresh                        # make the environments anew: what is newest may be older than today
    tools/matrix -- -k shrink                   # options for pytest

oldest: the lowest version of each range in pyproject.toml that a user's installation has (the extras of `dev` are
    tools of the checks); what those bring is the newest that goes with them.
lock: what tools/test runs with. newest: what pip finds today.

Environments (5 GB each) and what pytest wrote lie in .matrix/. A cell that ran on these very files is not run again,
red or green, so that a run that was stopped goes on where it was; --again runs it. Returns 1 if a cell is red.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pythons
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich import box
from rich.console import Console
from rich.table import Table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".matrix"
VERSIONS = ("oldest", "lock", "newest")
SHOWN = ("torch", "numpy")
QUICK = "not slow and not zoo"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a cell; `versions` of the packages shown, `seconds` of the tests."""

    cell: str
    state: str  # "green", "red", or "not installed"
    files: str  # what it ran on
    versions: Mapping[str, str]
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cells and print the table."""
    found = pythons.at_hand()
    options = parse(arguments, found)
    console = Console()
    CACHE.mkdir(exist_ok=True)
    files = fingerprint(options.pytest)
    results = []
    for cell in options.cells:
        result = None if options.again or options.fresh else recorded(cell, files)
        if result is None:
            result = run(cell, found[cell.partition("-")[2]], files, options, console)
            (CACHE / f"{cell}.json").write_text(json.dumps(asdict(result), indent=1))
        results.append(result)
    console.print(table(results))
    return int(any(result.state != "green" for result in results))


def parse(arguments: Sequence[str] | None, found: Mapping[str, Path]) -> argparse.Namespace:
    """Read the command line."""
    every = [f"{versions}-{python}" for versions in VERSIONS for python in found]
    usual = [cell for cell in every if not cell.startswith("oldest") or cell == f"oldest-{min(found, key=minor)}"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=every, default=usual, metavar="CELL", help=", ".join(every))
    parser.add_argument("--again", action="store_true", help="run cells that ran on these files before")
    parser.add_argument("--fresh", action="store_true", help="make the environments anew")
    parser.add_argument("--remove", action="store_true", help="remove each environment after its tests")
    parser.add_argument("--workers", default="auto", help="processes of pytest")
    parser.add_argument("pytest", nargs="*", help="options for pytest, after --")
    return parser.parse_args(arguments)


def minor(python: str) -> int:
    """Return the 10 of "3.10"."""
    return int(python.partition(".")[2])


def oldest(project: Mapping[str, Any]) -> list[str]:
    """Return the lowest version of all that a user's installation may ask for, as constraints."""
    extras = project["optional-dependencies"]
    asked = [text for name in extras if name != "dev" for text in extras[name]]
    lines = set()
    for requirement in map(Requirement, [*project["dependencies"], *asked]):
        for bound in requirement.specifier:
            if bound.operator in (">=", "=="):
                lines.add(f"{canonicalize_name(requirement.name)}=={bound.version}")
    return sorted(lines)


def fingerprint(options: Sequence[str]) -> str:
    """Return what stands for the files of the project as they are, and for the options of pytest."""
    listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    sum_of = hashlib.sha256(repr(list(options)).encode())
    for name in sorted(set(names)):
        path = ROOT / name
        if name and path.is_file():
            sum_of.update(f"\0{name}\0".encode() + path.read_bytes())
    return sum_of.hexdigest()


def recorded(cell: str, files: str) -> Result | None:
    """Return how the cell ended on these files, if it ran on them."""
    path = CACHE / f"{cell}.json"
    result = Result(**json.loads(path.read_text())) if path.exists() else None
    return result if result is not None and result.files == files and result.state != "not installed" else None


def run(cell: str, python: Path, files: str, options: argparse.Namespace, console: Console) -> Result:
    """Make the environment of a cell, and run the tests in it."""
    home, log = CACHE / cell, CACHE / f"{cell}.log"
    if options.fresh:
        shutil.rmtree(home, ignore_errors=True)
    console.print(f"{cell}: installing; what is done is written to {log.relative_to(ROOT)}")
    with log.open("w") as out:
        installed = install(cell, python, home, out)
        result = Result(cell, "not installed", files, {})
        if installed:
            console.print(f"{cell}: testing")
            result = replace(tested(cell, home, files, options, out), versions=versions_in(home))
    if options.remove:
        shutil.rmtree(home, ignore_errors=True)
    console.print(f"{cell}: {result.state}, {result.passed} passed, {result.failed} failed")
    return result


def install(cell: str, python: Path, home: Path, out: Any) -> bool:
    """Bring an environment up to date as the other commands do, with the constraints of the cell."""
    kind = cell.partition("-")[0]
    constraints = ROOT / "constraints.txt"
    if kind != "lock":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        constraints = CACHE / f"{kind}.txt"
        constraints.write_text("".join(f"{line}\n" for line in (oldest(project) if kind == "oldest" else ())))
    told = {"PYTHON": str(python), "VENV": str(home), "CONSTRAINTS": str(constraints)}
    command = ("bash", "-euo", "pipefail", "-c", "source tools/environment.sh; environment dev")
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **told}, stdout=out, stderr=out, check=False)
    return done.returncode == 0


def tested(cell: str, home: Path, files: str, options: argparse.Namespace, out: Any) -> Result:
    """Run the quick tests in an environment."""
    report = CACHE / f"{cell}.xml"
    report.unlink(missing_ok=True)
    command = (home / "bin" / "python", "-m", "pytest", "-q", "-m", QUICK, f"--junitxml={report}")
    shared = ("--numprocesses", options.workers, "--dist=worksteal", "-p", "no:cacheprovider")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
    start = time.monotonic()
    done = subprocess.run(
        [*command, *shared, *options.pytest], cwd=ROOT, env=environment, stdout=out, stderr=out, check=False
    )
    seconds = time.monotonic() - start
    if not report.exists():  # it ended before it could write
        return Result(cell, "red", files, {}, seconds=seconds)
    found = [int(suite.get(name, 0)) for suite in ET.parse(report).iter("testsuite") for name in _COUNTS]
    tests, failures, errors, skipped = found
    failed = failures + errors
    state = "green" if done.returncode == 0 and not failed else "red"
    return Result(cell, state, files, {}, tests - failed - skipped, failed, skipped, seconds)


_COUNTS = ("tests", "failures", "errors", "skipped")


def versions_in(home: Path) -> dict[str, str]:
    """Return the versions of the packages shown."""
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {SHOWN}}}))"
    done = subprocess.run([home / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def table(results: Sequence[Result]) -> Table:
    """Show one row for each cell."""
    caption = f"what pytest wrote: {CACHE.name}/CELL.log"
    shown = Table(title="Quick tests by versions and Python", caption=caption, box=box.SIMPLE_HEAD)
    for title in ("cell", "", *SHOWN):
        shown.add_column(title, no_wrap=True)
    for title in ("passed", "failed", "skipped", "minutes"):
        shown.add_column(title, justify="right", no_wrap=True)
    for result in results:
        versions = (result.versions.get(name, "") for name in SHOWN)
        counts = (str(count) for count in (result.passed, result.failed, result.skipped))
        colour = "green" if result.state == "green" else "red"
        shown.add_row(result.cell, f"[{colour}]{result.state}[/]", *versions, *counts, f"{result.seconds / 60:.1f}")
    return shown


if __name__ == "__main__":
    sys.exit(main())
