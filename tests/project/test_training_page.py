"""docs/training.md: every snippet trains a sparse model, as it stands."""

from __future__ import annotations

import functools
import importlib.util
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from campfire_fx.base.sharding import reshard, whole
from campfire_fx.layers.masked import MaskedLayer
from tests.sparse_training import Net, batches

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
FIRST, *SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PACKAGES = {"lightning", "transformers", "accelerate"}


def heading(snippet: str) -> str:
    """The heading that a snippet stands under."""
    return re.findall(r"^## (.*)$", PAGE[: PAGE.index(snippet)], re.MULTILINE)[-1]


@pytest.mark.filterwarnings("ignore")  # the advice of trainers
@pytest.mark.usefixtures("_one_process")
@pytest.mark.parametrize("snippet", SNIPPETS, ids=heading)
def test_it_trains_sparse(snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in PACKAGES & set(re.findall(r"^from (\w+)", snippet, re.MULTILINE)):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))  # without a compiler
    logging.getLogger("lightning").setLevel(logging.ERROR)
    loader: Any = DataLoader(batches(4), batch_size=None)  # type: ignore[arg-type]
    names: dict[str, Any] = {"model": Net(), "loader": loader, "epochs": 6, "__name__": "page"}
    for code in (FIRST, snippet):
        exec(compile(code, "docs/training.md", "exec", dont_inherit=True), names)
    sparse = names["sparse"]
    record = sparse.sparsity()
    assert record.frozen and record.true == pytest.approx(record.target, abs=0.02) and record.target > 0.5
    reshard(sparse.modules())
    for module in sparse.modules():
        if isinstance(module, MaskedLayer):
            weight = whole(module.weight.detach())
            assert not weight[~module.mask].any() and bool(weight.any())
    assert not torch.equal(whole(sparse.get_parameter("stem.weight").detach()), names["model"].stem.weight)
    if "shrink()" in snippet:
        assert names["slim"].verification.difference < 1e-5


def test_every_kind_of_loop_has_one() -> None:
    kinds = ("accumulate", "float16", "bfloat16", "channels_last", "AveragedModel", "torch.compile", "load_state_dict")
    wrappers = ("reconfigure", "DistributedDataParallel", "fully_shard", "lightning", "transformers", "accelerate")
    assert all(any(kind in snippet for snippet in SNIPPETS) for kind in (*kinds, *wrappers))
