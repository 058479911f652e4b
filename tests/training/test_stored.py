"""What an earlier version stored is loaded, and trains on as it did there, to the bit."""

from __future__ import annotations

import io

import pytest
import torch

from campfire_fx.app.train.checkpoint import read, restore
from campfire_fx.base.errors import RegimeError
from campfire_fx.training.model import SparseModel
from tests.sparse_training import assert_same_state
from tests.training.stored_runs import COMMANDS, FACTORY, PER_EPOCH, RUNS, STEPS, STOPS, STORED, go_on, start


def loaded(name: str) -> tuple[SparseModel, torch.optim.SGD, dict[str, torch.Tensor]]:
    content = torch.load(STORED / f"{name}.pt", weights_only=True)
    model, optimizer = start(name, seed=1)  # other weights
    model.load_state_dict(content["model"])
    for parameter, momentum in zip(model.parameters(), content["momenta"], strict=True):
        optimizer.state[parameter]["momentum_buffer"] = momentum
    return model, optimizer, content["end"]


def without_clock(model: SparseModel) -> dict[str, torch.Tensor]:
    return {key: value for key, value in model.state_dict().items() if not key.endswith("_extra_state")}


@pytest.mark.parametrize("name", RUNS)
def test_a_stored_run_goes_on_as_it_did(name: str) -> None:
    model, optimizer, end = loaded(name)
    record = model.sparsity()
    assert record.epoch == STOPS[name] // PER_EPOCH and not record.frozen
    go_on(model, optimizer, STOPS[name], STEPS)
    assert_same_state(without_clock(model), end)


@pytest.mark.parametrize("name", RUNS)
def test_saved_again_it_goes_on_the_same(name: str) -> None:
    model, optimizer, end = loaded(name)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other, again = start(name, seed=2)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_same_state(other.state_dict(), model.state_dict())
    again.load_state_dict(optimizer.state_dict())
    go_on(other, again, STOPS[name], STEPS)
    assert_same_state(without_clock(other), end)


@pytest.mark.parametrize("name", RUNS)
def test_it_is_refused_by_a_model_with_other_settings(name: str) -> None:
    other = "late" if name == "combined" else "combined"
    model, _ = start(other)
    with pytest.raises(RegimeError, match="state_dict"):
        model.load_state_dict(torch.load(STORED / f"{name}.pt", weights_only=True)["model"])


@pytest.mark.parametrize("name", COMMANDS)
def test_checkpoints_of_the_training_command_are_restored(name: str) -> None:
    model = restore(read(STORED / f"{name}.ckpt"), FACTORY)
    assert isinstance(model, SparseModel)
    assert_same_state(without_clock(model), without_clock(loaded(name)[0]))
    assert model.sparsity() == loaded(name)[0].sparsity()
