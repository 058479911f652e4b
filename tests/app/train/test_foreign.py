"""The state of a model is found in whatever a training script has saved."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from campfire_fx.app.train.checkpoint import load_state, read_tensors
from campfire_fx.app.train.networks import resnet8
from campfire_fx.base.errors import TrainError

STATE = resnet8(5, 1).state_dict()
OTHER = {name: torch.zeros_like(value) for name, value in STATE.items()}


def renamed(before: str, state: dict[str, Any] = STATE) -> dict[str, Any]:
    return {f"{before}{name}": value for name, value in state.items()}


WAYS: dict[str, dict[str, Any]] = {
    "bare": STATE,
    "under a key": {"state_dict": STATE, "epoch": 3},
    "of torchvision's scripts": {"model": STATE, "args": argparse.Namespace(lr=0.1), "optimizer": {"state": {}}},
    "under a key of its own": {"my_network": STATE, "scheduler": {"last": torch.ones(1)}},
    "deep": {"checkpoint": {"weights": STATE}},
    "data parallel": renamed("module."),
    "compiled": {"state_dict": renamed("_orig_mod.")},
    "compiled, data parallel": renamed("_orig_mod.module."),
    "data parallel, compiled": renamed("module._orig_mod."),
    "a part compiled": {name.replace("layer1.", "layer1._orig_mod."): value for name, value in STATE.items()},
    "checkpointed": {name.replace("layer1.", "layer1._checkpoint_wrapped_module."): v for name, v in STATE.items()},
    "Lightning's": {
        "state_dict": renamed("model.") | {"loss.weight": torch.ones(3)},
        "hyper_parameters": {"net": nn.ReLU},
        "pytorch-lightning_version": "2.0",
    },
    "deep in Lightning's": {"state_dict": renamed("task.net._orig_mod.")},
    "an average": {"n_averaged": torch.tensor(3), **renamed("module.")},
    "timm's": {"arch": "x", "state_dict_ema": OTHER, "state_dict": STATE},
    "no counts of batches": {name: v for name, v in STATE.items() if not name.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_state_is_found(tmp_path: Path, way: str) -> None:
    torch.save(WAYS[way], tmp_path / "x.ckpt")
    network = resnet8(5, 1)
    load_state(network, read_tensors(tmp_path / "x.ckpt"), "resnet8")
    for name, value in network.state_dict().items():
        assert torch.equal(value, STATE[name]) or name.endswith("num_batches_tracked"), name


def test_a_whole_model_that_was_pickled(tmp_path: Path) -> None:
    network = resnet8(5, 1)
    network.load_state_dict(STATE)
    for content in (network, {"model": network.half(), "epoch": 2}):
        torch.save(content, tmp_path / "x.pt")
        fresh = resnet8(5, 1)
        load_state(fresh, read_tensors(tmp_path / "x.pt"), "resnet8")
        torch.testing.assert_close(fresh.fc.weight, STATE["fc.weight"], rtol=1e-3, atol=1e-3)


def test_a_module_of_the_models_own_by_a_wrappers_name_is_kept() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._orig_mod = nn.Linear(2, 2)

    network = Net()
    load_state(network, {"_orig_mod.weight": torch.ones(2, 2), "_orig_mod.bias": torch.ones(2)}, "net")
    assert torch.equal(network._orig_mod.weight, torch.ones(2, 2))


def test_two_that_fit_alike_are_refused() -> None:
    with pytest.raises(TrainError, match="State of resnet8: 'student.' and 'teacher.' fit it equally well"):
        load_state(resnet8(5, 1), renamed("student.") | renamed("teacher.", OTHER), "resnet8")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"state_dict": {"conv1.weight": torch.ones(1)}}, "Missing key"),
        ({"epoch": 3}, "Missing key"),
        ({**STATE, "extra.weight": torch.ones(1)}, "Unexpected key"),
    ],
)
def test_what_does_not_fit_is_refused(content: dict[str, Any], told: str) -> None:
    with pytest.raises(TrainError, match=rf"State of resnet8: it does not fit the model \({told}"):
        load_state(resnet8(5, 1), content, "resnet8")


def test_a_pickled_thing_without_weights_is_named(tmp_path: Path) -> None:
    torch.save(argparse.Namespace(a=1), tmp_path / "x.pth")
    with pytest.raises(TrainError, match="it holds a Namespace. Save the model's state_dict"):
        read_tensors(tmp_path / "x.pth")
