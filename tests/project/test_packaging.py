"""The sdist, the wheel built from it and an editable install hold the same package, link or no link."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
TRIED = """
import sys, torch, campfire_fx
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
x = torch.randn(1, 3, 12, 12)
sparse = campfire_fx.sparsify(model, "channel", target={"macs": 0.5}, example_inputs=x)
slim = sparse.finalize().eval().shrink()
print(slim.report())
campfire_fx.export(slim, "slim.safetensors")
again = campfire_fx.load("slim.safetensors")
torch.testing.assert_close(again(x), slim(x))
print(*sorted(name for name in ("torchvision", "onnx", "sklearn", "matplotlib", "pytest") if name in sys.modules))
"""
PROBE = "import campfire_fx.passes.crop_kernels as p, campfire_fx as c; print(p.__file__); print(c.__version__)"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


DISTRIBUTIONS = {
    "PIL": "torchvision",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}  # of modules whose name is another's, or that it brings


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git keeps for the package, so that building leaves nothing behind."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("campfire_fx", "passes", "tests"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def built(source: Path) -> Path:
    """The folder with the sdist and the wheel that was built from the sdist alone."""
    run(sys.executable, "-m", "build", "--no-isolation", cwd=source)
    return source / "dist"


def modules(root: Path) -> set[str]:
    found = {path.relative_to(root).as_posix() for path in (root / "campfire_fx").rglob("*.py")}
    return found | {f"campfire_fx/{path.relative_to(root).as_posix()}" for path in (root / "passes").rglob("*.py")}


def test_the_link_is_a_link() -> None:
    link = ROOT / "campfire_fx" / "passes"
    assert link.is_symlink()
    assert link.readlink() == Path("../passes")


def names_of(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}


def imported_modules() -> set[str]:
    """Top-level names of what the package imports, anywhere in its code."""
    found = set()
    for folder in ("campfire_fx", "passes"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"campfire_fx"}


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    own = "train onnx plot lightning transformers timm ultralytics slurm wandb mlflow".split()
    used = [extras[name] for name in own]
    declared = names_of([*project["dependencies"], *chain(*used)])
    assert {DISTRIBUTIONS.get(name, name) for name in imported_modules()} <= declared


def test_the_core_needs_little_and_uses_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = names_of(project["dependencies"])
    assert core == {"filelock", "networkx", "numpy", "pyyaml", "rich", "safetensors", "torch", "typer"}
    assert core <= {DISTRIBUTIONS.get(name, name) for name in imported_modules()}


@pytest.mark.slow
def test_wheel_holds_every_module_once(source: Path, built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        entry_points = next(wheel.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    packaged = {name for name in names if ".dist-info/" not in name}
    pages = ("app/runs/layout.html", "app/runs/report.html", "app/sweep/sweep.html")
    data = {f"campfire_fx/{name}" for name in (*pages, "kernels/sparse.cpp", "py.typed")}
    assert packaged == modules(source) | data
    assert "campfire-fx = campfire_fx.app.cli:main" in entry_points
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_sdist_has_files_where_git_has_the_link(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        member = next(m for m in sdist.getmembers() if m.name.endswith("campfire_fx/passes/crop_kernels.py"))
        assert member.isfile()


@pytest.mark.slow
def test_installed_wheel_runs(built: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    wheel = next(built.glob("*.whl"))
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel, cwd=tmp_path)
    file, version = run(sys.executable, "-c", PROBE, cwd=tmp_path, PYTHONPATH=str(target)).split()
    assert Path(file) == target / "campfire_fx" / "passes" / "crop_kernels.py"
    assert version in wheel.name


@pytest.mark.slow
def test_editable_install_follows_the_link(source: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    # The packages of this environment, less its own editable installs, so that nothing is fetched.
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    Path(site, "outer.pth").write_text(sysconfig.get_path("purelib"))
    install = ("install", "--no-deps", "--no-index", "--no-build-isolation", "--editable", source)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=tmp_path)
    (source / "passes" / "written_later.py").write_text("FOUND = True\n")
    probe = f"{PROBE}; import campfire_fx.passes.written_later as w; print(w.FOUND)"
    file, _, found = run(python, "-c", probe, cwd=tmp_path).split()
    assert Path(file).resolve() == (source / "passes" / "crop_kernels.py").resolve()
    assert found == "True"


def asked_for(requirement: str) -> set[str]:
    """A package and all that it asks for, with the extras that are named, as this environment has them."""
    found, waiting = set(), [Requirement(requirement)]
    while waiting:
        one = waiting.pop()
        wanted = {(one.name, extra) for extra in ("", *one.extras)} - found
        found |= wanted
        waiting += [
            needs
            for needs in map(Requirement, importlib.metadata.requires(one.name) or ())
            if any(needs.marker is None or needs.marker.evaluate({"extra": extra}) for _, extra in wanted)
        ]
    return {name for name, _ in found}


def link_packages(names: set[str], site: Path) -> None:
    """Put packages of this environment into another one, by links to their files and folders.

    What is installed over a link is written into this environment: whoever calls pip there gives it nothing to install.
    """
    for name in names:
        packaged = importlib.metadata.distribution(name)
        tops = {file.parts[0] for file in packaged.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(packaged.locate_file(top))).resolve())


@pytest.mark.slow
def test_the_wheel_works_in_an_environment_that_holds_what_it_asks_for_and_nothing_else(
    built: Path, tmp_path: Path
) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    core = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    link_packages(set().union(*map(asked_for, names_of(core))), site)
    wheel = next(built.glob("*.whl"))
    # Not told to leave requirements out: pip finds here all that the wheel asks for, or fails. Without this machine's
    # settings, which may name a folder of wheels: pip would write them through the links.
    install = ("install", "--no-index", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=tmp_path, PIP_CONFIG_FILE=os.devnull)
    told = run(python, "-c", TRIED, cwd=tmp_path)
    assert "parameters" in told and told.splitlines()[-1] == "", "a package that is not asked for was there"
    command = python.with_name("campfire-fx")
    assert run(command, "--version", cwd=tmp_path).split()[-1] in wheel.name
    assert "channel" in run(command, "regimes", cwd=tmp_path)
