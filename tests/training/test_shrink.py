"""From a sparse model to a slim one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer

import campfire_fx
from campfire_fx.base.errors import ShrinkError
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.training.model import SparseModel
from tests.sparse_training import (
    IMAGE,
    assert_same_state,
    batches,
    sparse,
    train,
)


class TestShrink:
    def trained(self, **wishes: Any) -> tuple[SparseModel, Optimizer]:
        model = sparse("filter", **({"era": (0, 2), "sparsity": 0.5} | wishes))
        optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
        model.attach(optimizer, steps_per_epoch=2)
        for _ in train(model, optimizer, batches(6)):
            pass
        return model, optimizer

    @pytest.mark.parametrize(("dead_norm", "width"), [("zero", 4), ("keep", 5)])  # keep: constants merged into one
    def test_gives_a_smaller_plain_model_with_the_same_output(self, dead_norm: str, width: int) -> None:
        model, _ = self.trained(dead_norm=dead_norm)
        model.eval()
        before = copy.deepcopy(model.state_dict())
        slim = model.shrink()
        x = torch.randn(3, 3, 10, 10)
        difference = (slim(x) - model(x)).abs().max() / model(x).abs().max()
        assert difference < 1e-5 and slim.verification is not None and slim.verification.difference < 1e-5
        assert slim.get_submodule("conv1").weight.shape == (width, 6, 3, 3)
        assert not any(isinstance(module, MaskedLayer) for module in slim.modules())
        assert not any("mask" in name or "extra" in name for name in slim.state_dict())
        assert_same_state(model.state_dict(), before)
        assert isinstance(model, SparseModel) and slim._origin() is model

    def test_takes_the_optimizer_along(self) -> None:
        model, optimizer = self.trained()
        slim = model.shrink(optimizer=optimizer).train()
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in slim.parameters()}
        momentum = optimizer.state[slim.get_submodule("conv1").weight]["momentum_buffer"]
        assert momentum.shape == (4, 6, 3, 3) and bool(momentum.any())
        epoch = model.sparsity().epoch
        before = copy.deepcopy(slim.state_dict())
        for _ in train(slim, optimizer, batches(6)):
            pass
        assert not torch.equal(slim.state_dict()["conv1.weight"], before["conv1.weight"])
        assert model.sparsity().epoch == epoch, "the optimizer is detached from the sparse model"

    def test_follows_a_change_of_precision(self) -> None:
        model = sparse("filter", sparsity=0.5).finalize().double().eval()
        slim = model.shrink()
        x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
        assert (slim(x) - model(x)).abs().max() < 1e-12 * model(x).abs().max()
        assert model.dependency_graph.number_of_nodes() > 5

    def test_before_the_end_of_the_era_it_says_so(self, caplog: pytest.LogCaptureFixture) -> None:
        sparse(era=(30, 50)).shrink(verify=False)
        assert "Masks are not final: the schedule never began: neither attach(optim" in caplog.text
        caplog.clear()
        sparse().finalize().shrink(verify=False)
        assert not caplog.records

    def test_the_dependency_graph_names_the_layers(self) -> None:
        graph = sparse().dependency_graph
        assert graph.has_edge("conv1", "conv2") and graph.edges["conv1", "conv2"]["kind"] == "reads"


@pytest.mark.parametrize("inside", [False, True])
def test_the_public_shrink_takes_masks_off(inside: bool) -> None:
    model = sparse("filter", sparsity=0.5).finalize().eval()
    given = nn.Sequential(nn.Identity(), model) if inside else model
    slim = campfire_fx.shrink(given, IMAGE if inside else None)
    assert not any(isinstance(module, MaskedLayer) for module in slim.modules())
    assert sum(p.numel() for p in slim.parameters()) < sum(p.numel() for p in model.parameters())
    assert "Same output" in str(slim.report())
    assert torch.equal(copy.deepcopy(slim)(IMAGE), slim(IMAGE))
    torch.testing.assert_close(slim(IMAGE), model(IMAGE))
    with pytest.raises(ShrinkError, match="masks ride on the optimizer of this sparse model. Call its own shrink"):
        campfire_fx.shrink(given, IMAGE, optimizer=torch.optim.SGD(model.parameters(), 0.1))
