"""The lock holds everything that `dev` brings, in exact versions that pyproject.toml allows, and names no place."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
ALONE = ROOT / "tests" / "zoo" / "packages.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HERE = "{}.{}".format(*sys.version_info)
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def tool(name: str) -> Any:
    """A file of tools/, as a module."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "tools"))


def locked(python: str) -> dict[str, Version]:
    """The versions of the lock for one Python, each package once."""
    found: dict[str, Version] = {}
    for requirement in map(Requirement, LINES):
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            (pin,) = requirement.specifier
            assert requirement.name not in found, f"{requirement.name} has two versions on Python {python}"
            found[requirement.name] = Version(pin.version)
    return found


def expanded(requirements: list[str]) -> Iterator[Requirement]:
    """What the requirements ask for, extras of the project itself replaced by what they hold."""
    for requirement in map(Requirement, requirements):
        if requirement.name == PROJECT["name"]:
            for extra in requirement.extras:
                yield from expanded(PROJECT["optional-dependencies"][extra])
        else:
            yield requirement


def brought(versions: dict[str, Version]) -> dict[str, str]:
    """Names of all that `dev` brings into this environment, each with the name of one that asks for it.

    What a package asks for is followed where its version is the lock's: another may ask for something else.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(requirement, PROJECT["name"]) for requirement in asked_for()]
    while waiting:
        requirement, asker = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) not in seen:
            seen.add((name, extras))
            found.setdefault(name, asker)
            if installed(name) == versions.get(name):
                texts = importlib.metadata.requires(name) or ()
                waiting += [(needed, name) for needed in map(Requirement, texts) if applies(needed, extras)]
    return found


def applies(requirement: Requirement, extras: Collection[str] = (), python: str = HERE) -> bool:
    """Whether a requirement is one for this Python, asked for with these extras."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra, "python_version": python}) for extra in ("", *extras))


def installed(name: str) -> Version | None:
    try:
        return Version(Version(importlib.metadata.version(name)).public)
    except importlib.metadata.PackageNotFoundError:
        return None


def asked_for() -> list[Requirement]:
    return [item for item in every_asked_for() if applies(item)]


def every_asked_for() -> Iterator[Requirement]:
    yield from expanded([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])


def test_each_line_is_a_name_and_an_exact_version() -> None:
    line = re.compile(r"""[a-z0-9-]+==[\w.]+( ; python_version [<>]=? "3\.\d+"( and python_version < "3\.\d+")?)?""")
    assert LINES and [text for text in LINES if not line.fullmatch(text)] == []
    assert sorted(LINES, key=lambda text: Requirement(text).name) == LINES


@pytest.mark.parametrize("python", PYTHONS)
def test_the_versions_are_in_the_ranges_of_the_project(python: str) -> None:
    versions = locked(python)
    asked = [item for item in every_asked_for() if applies(item, python=python)]
    assert {item.name for item in asked} <= versions.keys()
    assert [str(item) for item in asked if versions[item.name] not in item.specifier] == []


def test_everything_that_dev_brings_is_in_it() -> None:
    versions = locked(HERE)
    assert {name: asker for name, asker in brought(versions).items() if name not in versions} == {}


@pytest.mark.skipif(not os.environ.get("CI"), reason="elsewhere, tests of what is not installed are skipped")
def test_ci_lacks_nothing_that_a_test_needs() -> None:
    alone = [line for line in ALONE.read_text().splitlines() if not line.startswith("#")]
    assert [str(needed) for needed in (*asked_for(), *map(Requirement, alone)) if installed(needed.name) is None] == []


def test_the_lock_is_made_for_the_pythons_that_the_project_names() -> None:
    prefix = "Programming Language :: Python :: 3."
    named = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if text.startswith(prefix)]
    assert tuple(named) == tool("pythons").SUPPORTED == PYTHONS


def test_versions_that_differ_get_markers_and_others_none() -> None:
    resolved = {
        "3.10": {"a": "1", "b": "1", "only-old": "5"},
        "3.11": {"a": "1", "b": "2", "only-new": "7"},
        "3.12": {"a": "1", "b": "2", "only-new": "7"},
        "3.13": {"a": "1", "b": "3", "only-new": "8"},
    }
    assert tool("make_lock").merged(resolved) == [
        "a==1",
        'b==1 ; python_version < "3.11"',
        'b==2 ; python_version >= "3.11" and python_version < "3.13"',
        'b==3 ; python_version >= "3.13"',
        'only-new==7 ; python_version < "3.13"',
        'only-new==8 ; python_version >= "3.13"',
        "only-old==5",
    ]


def test_names_and_versions_are_read_from_what_pip_reports() -> None:
    packages = [("Foo_Bar.baz", "1.0+cu130"), ("campfire-fx", "0.1")]
    report = {"install": [{"metadata": {"name": name, "version": version}} for name, version in packages]}
    assert tool("make_lock").versions(report) == {"foo-bar-baz": "1.0"}
