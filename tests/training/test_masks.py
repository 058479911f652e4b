"""Masks set by hand, and what is counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from campfire_fx.base.errors import RegimeError
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import (
    IMAGE,
    PRUNED,
    Net,
    layer,
    sparse,
)


class TestSetMask:
    def test_it_stays_as_it_was_put(self) -> None:
        model = sparse()
        mask = torch.rand_like(layer(model, "conv1").weight) > 0.3
        model.set_mask("conv1", mask)
        model.finalize()
        assert torch.equal(layer(model, "conv1").mask, mask)
        assert torch.equal(layer(model, "conv1").weight != 0, mask)
        assert {row.name: row.reason for row in model.sparsity().layers}["conv1"] == "its mask was set by hand"

    def test_numbers_count_as_kept_where_not_zero(self) -> None:
        model = sparse()
        model.set_mask("fc", torch.arange(60.0).reshape(5, 12) % 2)
        assert int(layer(model, "fc").mask.sum()) == 30

    def test_a_wrong_shape_is_refused(self) -> None:
        model = sparse()
        with pytest.raises(RegimeError, match=r"mask at conv1: its shape is \(8, 6\), the weight's is \(8, 6, 3, 3\)"):
            model.set_mask("conv1", torch.ones(8, 6))
        assert bool(layer(model, "conv1").mask.all())

    @pytest.mark.parametrize("name", ["conv3", "conv1.weight", "nothing.here"])
    def test_a_path_without_a_layer_is_refused(self, name: str) -> None:
        with pytest.raises(RegimeError, match=f"layer '{name}': no masked layer has that path. Did you mean '"):
            sparse().set_mask(name, torch.ones(1))

    def test_a_path_of_something_else_is_refused(self) -> None:
        with pytest.raises(RegimeError, match=r"layer 'bn1': a BatchNorm2d holds no mask\. Did you mean '"):
            sparse().set_mask("bn1", torch.ones(1))

    @pytest.mark.parametrize("call", [lambda m: m.sparsity(), lambda m: m.finalize(), lambda m: m.set_mask("fc", 1)])
    @pytest.mark.parametrize(
        ("head", "told"),
        [(nn.Linear(12, 7), "a Linear without a mask has taken its place"), (None, "it is gone from the model")],
    )
    def test_a_layer_that_was_replaced_is_named(self, call: Any, head: nn.Module | None, told: str) -> None:
        model = sparse()
        model._modules["fc"] = head
        with pytest.raises(RegimeError, match=f"layer 'fc': {told}. Change layers in the dense model"):
            call(model)

    def test_the_other_layers_of_a_model_with_a_new_head_are_still_there_to_be_masked(self) -> None:
        model = sparse()
        model._modules["fc"] = nn.Linear(12, 7)
        with pytest.raises(RegimeError, match="layer 'fc': a Linear without a mask"):
            model.set_mask("conv1", torch.ones(8, 6, 3, 3))

    def test_layers_that_share_a_weight_share_the_mask(self) -> None:
        class Tied(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.stem, self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
                self.b.weight = self.a.weight

            def forward(self, x: Tensor) -> Tensor:
                return self.b(self.a(self.stem(x)))

        model = sparsify(Tied(), "ck", sparsity=0.5, example_inputs=IMAGE)
        for moved in (model, model.double()):  # which makes two masks of one
            moved.set_mask("b", torch.rand(4, 4, 3, 3) > 0.5)
            assert torch.equal(layer(moved, "a").mask, layer(moved, "b").mask)
            assert not layer(moved, "a").weight[~layer(moved, "b").mask].any()
        assert model.sparsity().layers[1].reason == "its mask was set by hand"
        assert [row.name for row in model.sparsity().layers] == ["stem", "a"], "counted once"


class TestRecord:
    def test_totals_are_the_sums_of_the_layers(self) -> None:
        model = sparse().finalize()
        record = model.sparsity()
        assert [row.name for row in record.layers] == ["stem", *PRUNED]
        pruned = [row for row in record.layers if row.name in PRUNED]
        zeros = {name: int((layer(model, name).weight == 0).sum()) for name in PRUNED}
        assert {row.name: row.zeros for row in pruned} == zeros
        assert record.zeros == sum(zeros.values())
        assert record.true == record.zeros / sum(row.weights for row in pruned)
        assert record.overall == record.zeros / sum(p.numel() for p in Net().parameters())
        kernels, window = record.shares
        spatial = [row for row in pruned if row.kernels < row.weights]
        dead = sum(9 * row.dead_kernels for row in spatial)
        assert kernels == dead / sum(row.weights for row in spatial) > 0
        assert 1 - (1 - kernels) * (1 - window) == pytest.approx(
            sum(row.zeros for row in spatial) / sum(row.weights for row in spatial)
        )

    def test_a_layer_tells_target_and_true(self) -> None:
        row = {row.name: row for row in sparse().finalize().sparsity().layers}["conv1"]
        assert (row.operation, row.shape, row.weights, row.kernels, row.filters) == ("Conv2d", (8, 6, 3, 3), 432, 48, 8)
        assert row.final == row.target == 0.7
        assert row.true == row.zeros / 432 == pytest.approx(0.7, abs=1 / 48)
        assert row.true == pytest.approx(1 - (1 - row.window) * (1 - row.dead_kernels / row.kernels))

    def test_a_report_tells_it(self) -> None:
        text = str(sparse().finalize().report())
        assert "combined" in text and "70.0 %" in text and all(name in text for name in PRUNED)
