"""state_dicts, dense and sparse; runs resume bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity.saved_state import check_names
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import (
    IMAGE,
    OPTIMIZERS,
    Net,
    assert_resumes,
    assert_same_state,
    batches,
    layer,
    masks,
    sparse,
)


class TestResume:
    @pytest.mark.parametrize("make", [OPTIMIZERS["nesterov"], OPTIMIZERS["adamw"]], ids=["nesterov", "adamw"])
    @pytest.mark.parametrize("regime", ["combined", "filter"])
    @pytest.mark.parametrize("stop", [7, 9])  # inside an epoch, and between two
    def test_in_mid_era_it_is_bit_for_bit_the_run_never_stopped(
        self, make: Callable[[Any], Optimizer], regime: str, stop: int
    ) -> None:
        whole = assert_resumes(lambda seed: sparse(regime, seed=seed), make, batches(20), stop=stop, steps_per_epoch=3)
        assert whole.sparsity().true > 0.3 and whole.sparsity().epoch == 6

    def test_a_finalized_model_and_hand_made_masks_come_back(self) -> None:
        model = sparse(era=(30, 50))
        model.set_mask("stem", torch.rand_like(layer(model, "stem").weight) > 0.5)
        model.finalize()
        other = sparse(era=(30, 50))
        other.load_state_dict(model.state_dict())
        assert other.sparsity() == model.sparsity()
        other.epoch(40)
        assert other.sparsity().layers == model.sparsity().layers


class TestStateDict:
    def test_a_dense_one_loads_under_the_original_names(self) -> None:
        dense, model = Net(), sparse()
        result = model.load_state_dict(dense.state_dict())
        assert not result.missing_keys and not result.unexpected_keys
        x = torch.randn(2, 3, 8, 8)
        assert torch.equal(model.eval()(x), dense.eval()(x))
        assert [name for name, _ in model.named_parameters()] == [name for name, _ in dense.named_parameters()]

    def test_a_dense_one_is_masked_by_a_sparse_model(self) -> None:
        dense, model = Net(), sparse().finalize()
        before = masks(model)
        model.load_state_dict(dense.state_dict())
        assert_same_state(masks(model), before)
        conv = layer(model, "conv1")
        assert torch.equal(conv.weight, dense.conv1.weight * conv.mask)

    def test_safetensors_hold_it(self, tmp_path: Path) -> None:
        model = sparse().finalize()
        save_file(model.state_dict(), tmp_path / "sparse.safetensors")
        other = sparse()
        other.load_state_dict(load_file(tmp_path / "sparse.safetensors"))
        assert_same_state(other.state_dict(), model.state_dict())

    def test_its_schedule_replaces_the_models(self) -> None:
        saved, model = sparse(sparsity=0.5, era=(2, 9)), sparse(sparsity=0.7, era=(1, 4))
        model.load_state_dict(saved.state_dict())
        record = model.sparsity()
        assert (record.final, record.era) == (0.5, (2, 9))
        assert model.finalize().sparsity().true == pytest.approx(0.5, abs=0.02)

    def test_one_of_another_regime_changes_nothing(self) -> None:
        model, other = sparse("combined"), sparse("ck").finalize()
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(RegimeError, match=r"saved under regime 'ck', this model has 'combined'. Build the model"):
            model.load_state_dict(other.state_dict())
        assert_same_state(model.state_dict(), before)

    def test_nor_does_it_change_a_weight_of_the_model_itself(self) -> None:
        class Own(Net):
            def __init__(self) -> None:
                super().__init__()
                self.scale = nn.Parameter(torch.ones(5))

            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x) * self.scale

        model = sparsify(Own(), example_inputs=IMAGE)
        other = sparsify(Own(), "ck", example_inputs=IMAGE)
        nn.init.zeros_(other.scale)
        with pytest.raises(RegimeError, match="saved under regime 'ck'"):
            model.load_state_dict(other.state_dict())
        assert model.scale.tolist() == [1] * 5

    def test_missing_weights_are_still_missing(self) -> None:
        state = Net().state_dict()
        del state["conv1.weight"]
        with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "conv1.weight"'):
            sparse().load_state_dict(state)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_state_saved_in_a_wrapper_is_refused(wrap: Any) -> None:
    dense = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    model = sparsify(dense, example_inputs=torch.randn(1, 3, 8, 8))
    with pytest.raises(RegimeError, match="^load_state_dict: all names begin with '.*', as .* writes them. Load the"):
        model.load_state_dict(wrap(dense).state_dict())
    inner = nn.ModuleDict({"module": dense}).state_dict()
    check_names(inner, inner)  # a model of that name
