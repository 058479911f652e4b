"""Blocks that repeat are one class, also where they share an activation, or join more and more tensors."""

from __future__ import annotations

import ast
from pathlib import Path

import torch
from torch import Tensor, nn

from campfire_fx.export import export, load

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Conv(nn.Module):
    """One activation for all, as a YOLO has it; its second module is `silu`, as a name that is taken."""

    default = nn.SiLU()

    def __init__(self, given: int, width: int) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(given, width, 3, padding=1), self.default

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


class Pair(nn.Module):
    def __init__(self, width: int, acts: nn.Sequential) -> None:
        super().__init__()
        self.one, self.two, self.acts, self.silu = Conv(width, width + 1), Conv(width + 1, width), (acts,), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.acts[0][1](self.silu(self.two(self.one(x))))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.acts = nn.Sequential(nn.Tanh(), nn.SiLU())
        self.stem = Conv(3, 4)
        self.first, self.second = Pair(4, self.acts), Pair(4, self.acts)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(self.acts[0](self.stem(x))))


class Layer(nn.Module):
    def __init__(self, given: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(given), nn.Conv2d(given, 2, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.conv(torch.relu(self.norm(torch.cat(features, 1))))


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(3 + 2 * number) for number in range(9))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, 1)


def classes(model: nn.Module, path: Path) -> tuple[dict[str, str], str]:
    """The classes of the code and how often the model builds each; what is exported computes the same."""
    export(model.eval(), path / "it.safetensors", X)
    torch.testing.assert_close(load(path / "it.safetensors")(X), model(X), rtol=0, atol=0)
    code = (path / "it.py").read_text()
    return {one.name: ast.unparse(one) for one in ast.parse(code).body if isinstance(one, ast.ClassDef)}, code


def test_an_activation_that_all_blocks_share(tmp_path: Path) -> None:
    model = Shared()
    found, code = classes(model, tmp_path)
    assert set(found) == {"Layers", "Conv", "Pair", "Shared"}
    calls = [ast.unparse(one.func) for one in ast.walk(ast.parse(code)) if isinstance(one, ast.Call)]
    assert calls.count("Conv") == 5 and calls.count("Pair") == 2
    assert "y = self.silu(self.two(self.one(x)))" in found["Pair"] and "x + self.silu2(y)" in found["Pair"]
    assert model.stem.act is model.first.one.act is Conv.default  # the model given stays as it is


def test_a_layer_with_weights_stays_shared(tmp_path: Path) -> None:
    model = Shared()
    model.second.one.conv = model.first.one.conv
    _, code = classes(model, tmp_path)
    assert code.count("nn.Conv2d(") == 4


def test_layers_that_join_more_and_more(tmp_path: Path) -> None:
    found, code = classes(Dense(), tmp_path)
    assert set(found) == {"Layers", "Layer", "Dense"}
    assert "def forward(self, *x):" in code and "torch.cat(x, 1)" in found["Layer"]
