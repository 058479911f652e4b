"""docs/regimes.md: its code runs as it stands, and its tables name what there is."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

import campfire_fx
from campfire_fx import sparsity
from campfire_fx.sparsity import REGIMES, Goal
from tests.sparse_training import Net, batches, train

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "regimes.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """Run all Python on the page, in order, as a reader would."""
    page = sys.modules.setdefault("page", ModuleType("page"))  # dataclasses look up where they are defined
    found = vars(page) | {"model": Net(), "loader": batches(12), "campfire_fx": campfire_fx}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 6
    for block in blocks:
        exec(compile(block, "docs/regimes.md", "exec", dont_inherit=True), found)
    return found


def trained(model: campfire_fx.SparseModel) -> campfire_fx.SparseModel:
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    model.attach(optimizer, steps_per_epoch=2)
    for _ in train(model, optimizer, batches(6)):
        pass
    return model.eval()


def test_the_composition_kills_kernels_in_fours(names: dict[str, Any]) -> None:
    sparse = trained(names["sparse"])
    layer = next(row for row in sparse.sparsity().layers if not row.reason and row.operation == "Conv2d")
    kernels = sparse.get_submodule(layer.name).mask.flatten(2).any(2)
    assert layer.shape[0] % 4 == 0 and 0 < layer.dead_kernels < layer.kernels
    assert torch.equal(kernels, kernels[::4].repeat_interleave(4, 0))
    assert_shrinks_exactly(sparse)


def test_the_rule_meets_its_target_by_its_schedule(names: dict[str, Any]) -> None:
    model = names["stepped"]
    reached = []
    for epoch in range(4):
        model.epoch(epoch)
        reached.append(round(model.sparsity().true, 2))
    assert reached == [0, 0.3, 0.6, 0.6]
    other = campfire_fx.sparsify(Net(), names["regime"], sparsity=0.6, era=(0, 2))
    other.load_state_dict(trained(model).state_dict())
    assert other.sparsity() == model.sparsity()
    assert_shrinks_exactly(model)


def test_the_rule_keeps_the_laws(names: dict[str, Any]) -> None:
    rule, mask = names["rule"], torch.ones(8, 6, 9, dtype=torch.bool)
    weight = torch.randn(8, 6, 9)
    for due in (0.3, 0.6, 0.97):
        goal = Goal(due, 0.97)
        mask = mask & rule(weight, mask, goal)
        weight = torch.where(mask, weight + torch.randn(8, 6, 9), 0.0)
        assert torch.equal(mask & rule(weight, mask, goal), mask)
        assert bool(mask.any())


def test_admm_draws_weights_and_cuts_them(names: dict[str, Any]) -> None:
    drawn = campfire_fx.sparsify(Net(), names["columns"], sparsity=0.5, era=(0, 6))
    optimizer = SGD(drawn.parameters(), 0.05)
    drawn.attach(optimizer, steps_per_epoch=2)
    assert drawn.sparsity().residuals[0] > 0 and drawn.sparsity().zeros == 0
    for _ in train(drawn, optimizer, batches(14)):
        pass
    assert drawn.sparsity().true == pytest.approx(0.5, abs=0.06)
    assert_shrinks_exactly(drawn.eval())


def assert_shrinks_exactly(sparse: campfire_fx.SparseModel) -> None:
    slim = sparse.shrink()
    assert slim.verification is not None and slim.verification.difference < 1e-5
    assert isinstance(slim, nn.Module)


def test_swat_ends_in_an_exactly_smaller_model(names: dict[str, Any]) -> None:
    swat, slim = names["swat"].eval(), names["slim_swat"].eval()
    assert swat.sparsity().frozen and swat.sparsity().true == pytest.approx(0.8, abs=0.01)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(slim(x), swat(x), rtol=1e-5, atol=1e-6)


def test_the_example_of_a_whole_method_is_its_file(names: dict[str, Any]) -> None:
    file = Path(campfire_fx.__file__).parent / "sparsity" / "regimes" / "rigl.py"
    assert f"```python\n{file.read_text(encoding='utf-8')}```" in PAGE
    method, entry = file.read_text(encoding="utf-8").split("\n\n\nENTRIES", 1)
    assert len(method.splitlines()) <= 60 and len(entry.splitlines()) <= 15
    model = trained(campfire_fx.sparsify(Net(), names["rigl"](period=2), sparsity=0.6, era=(0, 3)))
    begun = campfire_fx.sparsify(Net(), names["rigl"](period=2), sparsity=0.6, era=(0, 3))
    begun.epoch(0)
    masks = (model.get_submodule("conv1").mask, begun.get_submodule("conv1").mask)
    assert not torch.equal(*masks) and masks[0].sum() == masks[1].sum()
    assert_shrinks_exactly(model)


def test_the_tables_are_those_of_the_entries() -> None:
    import regime_pages

    for path, text in regime_pages.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"run tools/regime_pages.py to renew {path.name}"
    assert all(name in REGIMES for row in regime_pages.TABLE_7 for name in row.also)
    assert regime_pages.placed("a <!-- t: made by tools/regime_pages.py -->old<!-- end of t --> b", "t", "new") == (
        "a <!-- t: made by tools/regime_pages.py -->\n\nnew\n\n<!-- end of t --> b"
    )


def test_the_tables_name_every_regime_and_every_part() -> None:
    table = PAGE[PAGE.index("## The regimes") :]
    assert all(f"`{name}`" in table for name in REGIMES)
    parts = PAGE[: PAGE.index("## The regimes")]
    functions = {"at_random", "block", "column_block", "largest", "l1", "l2", "monotone", "over_layers", "runs"}
    constants = {name for name in sparsity.__all__ if name.isupper() and name != "REGIMES"}
    for name in (
        functions
        | constants
        | {"Polynomial", "Constant", "Throughout", "Stages", "DenseWeights", "ByMomentum", "Admm", "Exchange"}
        | {"Cut", "Granularity", "Scope", "Regime"}
    ):
        assert re.search(rf"`{name}\b", parts), name
        assert hasattr(sparsity, name)
