"""Checkpoints: what is read is what was saved, dense or sparse; files of other kinds are named and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn.utils import prune

import campfire_fx
from campfire_fx.app.train.checkpoint import Checkpoint, load_state, read, read_tensors, restore, save
from campfire_fx.app.train.networks import resnet8
from campfire_fx.base.errors import TrainError

OPTIONS = {"classes": 3, "channels": 1}
SPARSE = {"regime": "ck", "sparsity": 0.5, "era": (0, 2)}
IMAGES = torch.randn(4, 1, 8, 8)


def sparse_network() -> campfire_fx.SparseModel:
    network = campfire_fx.sparsify(resnet8(**OPTIONS), example_inputs=IMAGES, **SPARSE)
    return network.finalize().eval()


def checkpoint_of(network: nn.Module, **changes: Any) -> Checkpoint:
    facts = {"model": "resnet8", "options": OPTIONS, "shape": (1, 1, 8, 8), "sparse": None}
    return Checkpoint(**(facts | changes), state=network.state_dict())


def test_dense_network_comes_back(tmp_path: Path) -> None:
    network = resnet8(**OPTIONS).eval()
    save(checkpoint_of(network), tmp_path / "dense.ckpt")
    again = restore(read(tmp_path / "dense.ckpt"))
    assert torch.equal(again(IMAGES), network(IMAGES))
    assert [path.name for path in tmp_path.iterdir()] == ["dense.ckpt"]


def test_sparse_network_comes_back_with_masks(tmp_path: Path) -> None:
    network = sparse_network()
    save(checkpoint_of(network, sparse=SPARSE), tmp_path / "sparse.ckpt")
    again = restore(read(tmp_path / "sparse.ckpt"))
    assert isinstance(again, campfire_fx.SparseModel)
    assert again.sparsity() == network.sparsity()
    assert torch.equal(again(IMAGES), network(IMAGES))


def test_code_of_the_users_runs_only_when_named(tmp_path: Path) -> None:
    network = resnet8(**OPTIONS)
    save(checkpoint_of(network, model="campfire_fx.app.train.networks:resnet8"), tmp_path / "mine.ckpt")
    saved = read(tmp_path / "mine.ckpt")
    with pytest.raises(TrainError, match="If you trust that code, give --model campfire_fx.app.train.networks:resnet8"):
        restore(saved)
    assert isinstance(restore(saved, "campfire_fx.app.train.networks:resnet8"), nn.Module)


def test_state_of_another_model_is_refused() -> None:
    with pytest.raises(TrainError, match=r"State of resnet8: it does not fit the model \(.*layer1"):
        load_state(resnet8(), nn.Linear(2, 2).state_dict(), "resnet8")


def test_masks_of_torch_prune_become_zeros() -> None:
    network = resnet8(**OPTIONS)
    prune.ln_structured(network.layer1[0].conv1, "weight", amount=0.5, n=2, dim=0)
    plain = resnet8(**OPTIONS)
    load_state(plain, {"model": network.state_dict(), "epoch": 3}, "resnet8")
    assert int((plain.layer1[0].conv1.weight.flatten(1).abs().sum(1) == 0).sum()) == 8
    assert torch.equal(plain.eval()(IMAGES), network.eval()(IMAGES))


def test_states_of_data_parallel_training_fit() -> None:
    network = resnet8(**OPTIONS)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    plain = resnet8(**OPTIONS)
    load_state(plain, {"state_dict": state}, "resnet8")
    assert torch.equal(plain.fc.weight, network.fc.weight)


def test_safetensors_are_read(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    assert read_tensors(tmp_path / "x.safetensors")["a"].tolist() == [1, 1]


@pytest.mark.parametrize(("content", "text"), [
    (None, "there is no such file"),
    (b"nothing", "it is not a file of torch.save, or holds more than tensors"),
    ([1, 2], "it holds a list"),
    ({"weight": torch.ones(1)}, "bare state_dict.* Name the model with --model"),
])  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, content: object, text: str) -> None:
    path = tmp_path / "some.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(TrainError, match=f"Checkpoint at .*some.ckpt: .*{text}"):
        read(path)


def test_unwritable_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="it cannot be written"):
        save(checkpoint_of(resnet8()), tmp_path / "none" / "x.ckpt")
