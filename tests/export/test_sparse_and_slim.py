"""What this library makes is exported without what it was made with: no masks, no hooks, no classes of ours."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from campfire_fx import ExportError, shrink, sparsify
from campfire_fx.app.train.networks import resnet8
from campfire_fx.export import export, load
from tests.assertions import Snapshot, assert_untouched
from tests.export.nets import IMAGE, build
from tests.nets import CASES
from tests.nets.case import Case

X = torch.randn(IMAGE)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt2"])
def test_sparse_model_becomes_dense_layers_with_its_zeros(tmp_path: Path, suffix: str) -> None:
    model, _ = build("residual")
    sparse = sparsify(model, "combined", sparsity=0.6, example_inputs=X)
    sparse.finalize()
    snapshot = Snapshot.of(sparse)
    record = export(sparse, tmp_path / f"it{suffix}")  # with the example it carries
    assert_untouched(sparse, snapshot)
    found = load(record.path)
    state = found.state_dict()
    assert set(state) == set(model.state_dict())
    assert (state["stages.0.up.weight"] == 0).float().mean() > 0.4
    sparse.eval()
    assert torch.allclose(found(X), sparse(X), rtol=0, atol=1e-6)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt2"])
def test_what_still_trains_under_its_masks_is_written_as_it_computes(tmp_path: Path, suffix: str) -> None:
    model, _ = build("residual")
    sparse = sparsify(model, "swat-u", sparsity=0.6, example_inputs=X)
    sparse.epoch(0)
    snapshot = Snapshot.of(sparse)
    found = load(export(sparse, tmp_path / f"it{suffix}").path)
    assert_untouched(sparse, snapshot)
    assert (sparse.get_parameter("stages.0.up.weight") != 0).all()
    assert (found.state_dict()["stages.0.up.weight"] == 0).float().mean() == pytest.approx(0.6, abs=0.05)
    assert torch.allclose(found(X), sparse.eval()(X), rtol=0, atol=1e-6)
    assert torch.allclose(shrink(sparse, X)(X), sparse(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("residual", ["union", "gate"])
def test_slim_model_is_written_with_its_small_widths(tmp_path: Path, residual: str) -> None:
    model, _ = build("residual")
    with torch.no_grad():
        model.stem[0].weight[:2] = 0
        model.stem[1].bias.fill_(-0.1)
        model.stem[1].running_mean.fill_(0.1)
        model.stages[0].down.weight[1] = 0
        model.stages[0].down.bias[1] = 0
    slim = shrink(model, X, residual=residual)
    record = export(slim, tmp_path / "slim.safetensors")
    found = load(record.path)
    assert {name: tensor.shape for name, tensor in found.state_dict().items()} == {
        name: tensor.shape for name, tensor in slim.state_dict().items()
    }
    assert sum(p.numel() for p in found.parameters()) < sum(p.numel() for p in model.parameters())
    assert "down=nn.Conv2d(4, 2, kernel_size=1)" in record.path.with_suffix(".py").read_text()
    assert torch.allclose(found(X), model(X), rtol=0, atol=1e-5)


NOT_WRITABLE = {"OpaqueModule": "at opaque: Opaque is not a layer of torch.nn.*torch.save"}
"""Networks with a part that only its own Python code can run."""


@pytest.mark.parametrize("case", CASES.values(), ids=str)
def test_every_repair_that_shrinking_makes_can_be_written(tmp_path: Path, case: Case) -> None:
    """Selections, index adds, folded constants and cut movements, of each kind of network, in float64."""
    slim = shrink(case.model(), case.example(), residual="gate", verify=False)
    if case.name in NOT_WRITABLE:
        with pytest.raises(ExportError, match=NOT_WRITABLE[case.name]):
            export(slim, tmp_path / "slim.safetensors")
        return
    assert export(slim, tmp_path / "slim.safetensors").difference <= 1e-12


def test_model_pruned_by_torch_is_written_with_plain_weights(tmp_path: Path) -> None:
    model, _ = build("residual")
    for layer in (model.stem[0], model.stages[1].up):
        prune.l1_unstructured(layer, "weight", 0.5)
    model(X).sum().backward()  # the masked weights now have a history
    export(model, tmp_path / "it.safetensors", X)
    found = load(tmp_path / "it.safetensors")
    assert not any("orig" in name or "mask" in name for name in found.state_dict())
    assert torch.equal(found(X), model(X))


def test_generated_model_can_be_sparsified_and_shrunk_again(tmp_path: Path) -> None:
    model, _ = build("residual")
    export(model, tmp_path / "it.pt", X)
    found = load(tmp_path / "it.pt")
    assert isinstance(found, nn.Module)
    sparse = sparsify(found, "filter", sparsity=0.5, example_inputs=X)
    sparse.finalize()
    slim = sparse.shrink()
    sparse.eval()
    assert torch.allclose(slim.eval()(X), sparse(X), rtol=0, atol=1e-5)


def test_a_slim_model_is_written_with_the_blocks_of_the_model_that_trained(tmp_path: Path) -> None:
    sparse = sparsify(resnet8(), "filter", sparsity=0.5, example_inputs=torch.randn(1, 3, 32, 32)).finalize()
    slim = sparse.shrink()
    codes = []
    for number, model in enumerate((slim, copy.deepcopy(slim), pickle.loads(pickle.dumps(slim)))):
        export(model, tmp_path / f"{number}.safetensors")
        codes.append((tmp_path / f"{number}.py").read_text())
    assert codes[1:] == codes[:1] * 2
    assert codes[0].count("class ResidualBlock") == 2, "one with downsample, one without"
    assert codes[0].count("nn.Sequential(") == 3 + 2 and "ModuleList" not in codes[0]
    assert "self.layer3(self.layer2(" in codes[0] or "self.layer2(self.layer1(" in codes[0]
