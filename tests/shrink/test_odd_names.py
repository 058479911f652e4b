"""Modules whose names are keywords, or no names at all, through capture, shrink, training and every format."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import campfire_fx
from campfire_fx.base.naming import is_attribute
from tests.assertions import difference

X = torch.randn(2, 3, 6, 6)
FORMATS = [".pt", ".safetensors", ".pt2"] + [".onnx"] * (importlib.util.find_spec("onnxscript") is not None)


class Named(nn.Module):
    """Layers under given names, inside a module whose name is a keyword."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        inner = nn.Module()
        for name in names:
            inner.add_module(name, nn.Conv2d(3, 3, 1))
        self.add_module("from", inner)
        self.by_name = nn.ModuleDict({"import": nn.Conv2d(3, 3, 1)})
        self.register_parameter("async", nn.Parameter(torch.ones(1)))
        self.register_buffer("nonlocal", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        for layer in getattr(self, "from").children():
            x = layer(x).relu()
        return self.by_name["import"](x) * getattr(self, "async") + getattr(self, "nonlocal")


@pytest.mark.parametrize("suffix", FORMATS)
def test_keywords_are_names_in_every_format(tmp_path: Path, suffix: str) -> None:
    model = Named("class", "lambda", "None", "my-layer", "ünï", "with space", "__mangled").eval()
    slim = campfire_fx.shrink(model, X)
    campfire_fx.export(slim, tmp_path / f"it{suffix}", X)
    assert difference([model(X)], [campfire_fx.load(tmp_path / f"it{suffix}")(X)]) <= 1e-5
    assert set(slim.state_dict()) == set(model.state_dict())


@pytest.mark.parametrize("name", ['quo"te', "it's", "a\\b", "new\nline"])
def test_names_with_quotes_and_the_like(tmp_path: Path, name: str) -> None:
    model = Named(name).eval()
    slim = campfire_fx.shrink(model, X)
    campfire_fx.export(slim, tmp_path / "it.pt", X)
    assert difference([model(X)], [campfire_fx.load(tmp_path / "it.pt")(X)]) <= 1e-5


def test_a_sparse_model_with_such_names_trains_and_is_pickled() -> None:
    sparse = campfire_fx.sparsify(Named("class"), sparsity=0.5, prune_1x1=True, example_inputs=X)
    again = pickle.loads(pickle.dumps(sparse))
    again.train()(X).sum().backward()
    assert again.get_submodule("from.class").weight.grad is not None


@pytest.mark.parametrize(("name", "is_one"), [
    ("conv1", True), ("ünï", True), ("match", True), ("__call__", True), ("class", False), ("None", False),
    ("0", False), ("a-b", False), ("__private", False), ("", False),
])  # fmt: skip
def test_what_can_stand_behind_a_dot(name: str, is_one: bool) -> None:
    assert is_attribute(name) is is_one
