"""Every page: its Python runs, its commands have the options they are given, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import campfire_fx
from campfire_fx.app.cli import COMMANDS, command_named
from campfire_fx.app.train.networks import resnet8
from tests.project import pages
from tests.sparse_training import IMAGE, Net, batches

ALONE = {  # pages with a test of their own, which asks for more than that the code runs
    "docs/accelerate.md": "test_accelerate_page.py",
    "docs/after.md": "test_after_page.py",
    "docs/channels.md": "test_channels_page.py",
    "docs/columns.md": "test_columns_page.py",
    "docs/groups.md": "test_groups_page.py",
    "docs/index.md": "test_pages.py",  # the code of README.md
    "docs/methods/dynamic.md": "test_methods_pages.py",
    "docs/methods/early.md": "test_methods_pages.py",
    "docs/methods/magnitude.md": "test_methods_pages.py",
    "docs/methods/penalties.md": "test_methods_pages.py",
    "docs/methods/scores.md": "test_methods_pages.py",
    "docs/regimes.md": "test_regimes_page.py",
    "docs/training.md": "test_training_page.py",
}
WITH_CODE = [page for page in pages.PAGES if pages.snippets(page)]
NEEDS = {"onnx": "onnx", "torchvision": "torchvision", "pictures": "matplotlib"}  # word on a page: package


def at_hand(page: str) -> dict[str, Any]:
    """What a reader of a page has: a model, an example of its input, data."""
    torch.manual_seed(0)
    loader: Any = DataLoader(batches(4), batch_size=None)  # type: ignore[arg-type]
    names: dict[str, Any] = {"torch": torch, "F": F, "campfire_fx": campfire_fx}
    names |= {"model": Net(), "x": IMAGE, "example": IMAGE, "loader": loader, "epochs": 6}
    if page == "docs/guides/deploy.md":
        sparse = campfire_fx.sparsify(Net(), "channel", target={"macs": 0.7}, example_inputs=IMAGE)
        names["slim"] = sparse.finalize().eval().shrink()
    if page == "docs/onnx.md":
        campfire_fx.export(Net().eval(), "model.onnx", IMAGE)
    if page == "docs/accelerator.md":
        names |= {"model": resnet8(), "image": torch.randn(1, 3, 8, 8), "mask": torch.rand(16, 16, 3, 3) > 0.7}
    return names


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("_one_process")
@pytest.mark.parametrize("page", [page for page in WITH_CODE if page not in ALONE])
def test_the_code_runs_as_it_stands(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = " ".join(snippet.code for snippet in pages.snippets(page))
    for package in (package for word, package in NEEDS.items() if word in code):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    names = at_hand(page)
    before = dict(names)
    pages.run(page, names, smaller={"224, 224": "64, 64"})
    made = {name: value for name, value in names.items() if value is not before.get(name)}
    slim = [value for value in made.values() if isinstance(value, campfire_fx.SlimModel)]
    assert made and all(one.verification is not None and one.verification.difference < 1e-5 for one in slim)
    assert slim or ".shrink(" not in code


def test_pages_with_tests_of_their_own_have_them() -> None:
    tests = Path(__file__).parent
    assert ALONE.keys() <= set(WITH_CODE)
    assert all(re.search(r"docs", (tests / name).read_text()) for name in ALONE.values())


@pytest.mark.parametrize("page", pages.PAGES)
def test_commands_have_the_options_that_they_are_given(page: str) -> None:
    for words in pages.commands(page):
        if words[0].startswith(("tools/", "./tools/")):
            assert (pages.ROOT / words[0]).exists(), words[0]
        if words[:1] == ["python"] and words[1].startswith("tools/"):
            assert (pages.ROOT / words[1]).exists(), words[1]
        name = next((words[i + 1] for i, word in enumerate(words[:-1]) if word in ("campfire-fx", "campfire_fx")), None)
        if name is None or name.startswith("-"):
            continue
        assert name in COMMANDS, f"{page}: there is no command {name}"
        asked = {word.partition("=")[0] for word in words if re.match(r"--\w", word)} - {"--nproc-per-node", "--help"}
        assert asked <= options(name), f"{page}: campfire-fx {name} has no {asked - options(name)}"


def options(command: str) -> set[str]:
    """The options of a command; those of `train`, too, where it passes them on."""
    passed_on = ("train",) if command == "sweep" else ()
    found = (command_named(name).params for name in (command, *passed_on))
    return {option for parameters in found for parameter in parameters for option in parameter.opts}


@pytest.mark.parametrize("page", pages.PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    for target in pages.links(page):
        path, _, anchor = target.partition("#")
        file = (pages.ROOT / page).parent / path if path else pages.ROOT / page
        assert file.exists(), f"{page}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page}: {target} names no heading of {sorted(anchors(file))}"


def anchors(file: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", file.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", "-") for heading in headings}


def test_the_first_page_of_the_site_has_the_code_of_the_readme() -> None:
    assert pages.snippets("README.md")[0].code == pages.snippets("docs/index.md")[0].code
