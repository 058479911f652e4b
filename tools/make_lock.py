"""Write constraints.txt: the exact version of everything that the extra `dev` brings, on every supported Python.

    tools/lock            # the newest versions that pyproject.toml allows
    tools/lock --keep     # the versions of today's lock, and the newest of what it does not hold yet

pip resolves once with each Python; a version that is not the same everywhere gets markers. The versions are those for
Linux on x86_64, where the checks run; elsewhere the lock holds as far as the same packages are asked for.
It needs every supported Python (on PATH, or kept by pyenv), and nothing beside the standard library.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import pythons

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "constraints.txt"
HEAD = """\
# What the extra `dev` brings, in the versions that all checks run with. Made by tools/lock; not written by hand.
# pip install -c constraints.txt --editable ".[dev]"
"""
PLATFORM = "linux-x86_64"
Versions = Mapping[str, str]  # of packages, by name


def main() -> int:
    """Resolve with every Python, and write the lock."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="change no version that the lock holds")
    options = parser.parse_args()
    if sysconfig.get_platform() != PLATFORM:
        sys.exit(f"tools/lock: this is {sysconfig.get_platform()}. Run it on {PLATFORM}, where the checks run.")
    found = pythons.at_hand()
    missing = [version for version in pythons.SUPPORTED if version not in found]
    if missing:
        sys.exit(f"tools/lock: Python {', '.join(missing)} was not found. Install it, for example with pyenv.")
    resolved: dict[str, Versions] = {}
    for version, python in found.items():
        print(f"Resolving with Python {version}", flush=True)
        resolved[version] = resolve(python, keep=options.keep)
    LOCK.write_text(HEAD + "".join(f"{line}\n" for line in merged(resolved)))
    print(f"Written to {LOCK.name}: {len(set().union(*resolved.values()))} packages")
    return 0


def resolve(python: Path, *, keep: bool) -> Versions:
    """Return what pip would install into an empty environment of this Python."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        pip = (f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        subprocess.run([*pip, "--upgrade", "pip"], check=True)
        report = Path(folder, "report.json")
        options = ("--constraint", str(LOCK)) if keep else ()
        wanted = ("--dry-run", "--ignore-installed", "--report", str(report), "--editable", f"{ROOT}[dev]")
        subprocess.run([*pip, *options, *wanted], cwd=ROOT, check=True)
        return versions(json.loads(report.read_text()))


def versions(report: Mapping[str, list[Mapping[str, dict[str, str]]]]) -> Versions:
    """Return names and public versions out of pip's report, without the project itself."""
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in report["install"]}
    named = {re.sub(r"[-_.]+", "-", name).lower(): version.partition("+")[0] for name, version in found.items()}
    return {name: version for name, version in named.items() if name != "campfire-fx"}


def merged(resolved: Mapping[str, Versions]) -> list[str]:
    """Return the lines of the lock, sorted by name.

    Args:
        resolved: versions of packages by Python ("3.10"), lowest Python first.
    """
    lines = []
    for name in sorted(set().union(*resolved.values())):
        known = [(python, found[name]) for python, found in resolved.items() if name in found]
        runs = [(version, [python for python, _ in run]) for version, run in groupby(known, key=lambda pair: pair[1])]
        for index, (version, where) in enumerate(runs):
            # The first is good for older Pythons too, the last for newer ones.
            bounds = [f'python_version >= "{where[0]}"'] if index else []
            bounds += [f'python_version < "{runs[index + 1][1][0]}"'] if index + 1 < len(runs) else []
            lines.append(f"{name}=={version}" + (f" ; {' and '.join(bounds)}" if bounds else ""))
    return lines


if __name__ == "__main__":
    sys.exit(main())
