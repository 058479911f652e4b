"""docs/methods: every snippet runs as it stands, and the pages name what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.optim import SGD

from campfire_fx import SparseModel
from campfire_fx.sparsity import Penalty, find_regimes, penalty, slices
from campfire_fx.sparsity.channels.scores import OF_BATCHES, OF_STEPS
from campfire_fx.sparsity.regimes import by_score, pfa, snip, thinet
from tests.sparse_training import IMAGE, Net, batches, train

PAGES = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parents[2] / "docs" / "methods").glob("*.md"))
    if path.stem != "README"
}


@pytest.mark.parametrize("page", PAGES)
def test_every_snippet_makes_a_model_that_trains_and_shrinks(page: str) -> None:
    torch.manual_seed(0)
    names: dict[str, Any] = {"model": Net(), "example": IMAGE, "loader": batches(4), "F": F}
    for snippet in re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL):
        exec(compile(snippet, f"docs/methods/{page}.md", "exec", dont_inherit=True), names)
    made = {name: value for name, value in names.items() if isinstance(value, SparseModel)}
    assert made
    for name, sparse in made.items():
        if not sparse._life_cycle.optimizers:  # the snippet itself trains it
            optimizer = SGD(sparse.parameters(), 0.05)
            sparse.attach(optimizer, steps_per_epoch=2)
            for _ in train(sparse, optimizer, batches(6)):
                pass
        slim = sparse.finalize().eval().shrink()
        assert slim.verification is not None and slim.verification.difference < 1e-5, name


def test_the_page_of_scores_names_them_all() -> None:
    made, scores = by_score.ENTRIES + thinet.ENTRIES + pfa.ENTRIES + snip.ENTRIES, OF_STEPS + OF_BATCHES
    page = PAGES["scores"]
    assert all(f"| `{entry.name}` |" in page for entry in made)
    assert all(f"| `{name}` |" in page for name in scores)


def test_the_page_of_penalties_names_them_all() -> None:
    page = PAGES["penalties"]
    assert all(f"| `{entry.name}` |" in page for entry in find_regimes(family="penalty"))
    shapes = [name for name, value in vars(penalty).items() if isinstance(value, penalty.Shape)]
    groupings = [name for name, value in vars(slices).items() if isinstance(value, type) and hasattr(value, "couples")]
    kinds = [kind.__name__ for kind in Penalty.__subclasses__()]
    assert len(shapes) == 3 and len(kinds) >= 2
    assert all(f"`{name}" in page for name in (*shapes, *kinds))
    assert len(groupings) == 4 and all(f"`{name}(" in page for name in groupings)


@pytest.mark.parametrize("family", ["magnitude", "dynamic"])
def test_the_page_of_a_family_has_a_row_for_each_regime(family: str) -> None:
    assert all(re.search(rf"^\|.*`{entry.name}`.*\|", PAGES[family], re.M) for entry in find_regimes(family=family))


def test_the_snippet_of_tickets_goes_back_as_it_says() -> None:
    names: dict[str, Any] = {"model": Net(), "example": IMAGE, "loader": batches(4), "F": F}
    snippet = re.findall(r"```python\n(.*?)```", PAGES["early"], re.DOTALL)[0]
    exec(compile(snippet, "docs/methods/early.md", "exec", dont_inherit=True), names)
    assert names["rewinding"].epochs_back == 2
    assert names["ticket"].sparsity().true == pytest.approx(0.6, abs=0.01)
