"""A captured model keeps what code around it needs: attributes that are data, and methods that are still right."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from campfire_fx import export, load, shrink, sparsify, trace
from tests.random_zeros import zero_filters

X = torch.randn(2, 3, 12, 12)


class Detector(nn.Module):
    """What a detector's users read and call."""

    task = "detect"

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Sequential(nn.Conv2d(16, 4, 1))
        self.inner = nn.Module()
        self.inner.conv, self.inner.width, self.inner.options = nn.Conv2d(4, 4, 1), 16, SimpleNamespace(a=1)
        self.names, self.stride = {0: "cat", 1: "dog"}, torch.tensor([8.0])
        self.config = SimpleNamespace(size=(12, 12), deep={"x": [1, None]})
        self.report = "a name that a method of the slim model has"
        self.callback: Any = print
        self._threshold = 0.5

    def features(self, x: Tensor) -> Tensor:
        return self.stem(x).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner.conv(self.head(self.features(x))).mean((2, 3))

    @torch.no_grad()
    def predict(self, x: Tensor) -> list[str]:
        return [self.label(int(i)) for i in self.eval()(x).argmax(1)]

    def label(self, index: int) -> str:
        return self.names.get(index, "other")

    def embed(self, x: Tensor) -> Tensor:
        return self.features(x).mean((2, 3))

    def count(self) -> int:
        return sum(1 for _ in self.children())

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def threshold(self) -> float:
        return self._threshold

    @staticmethod
    def scaled(x: float) -> float:
        return x * 2

    @classmethod
    def kind(cls) -> str:
        return cls.__name__


def detector() -> Detector:
    model = Detector().eval()
    zero_filters(model.stem, (1, 2, 5))
    return model


def assert_belongs(made: Any, model: Detector) -> None:
    assert made.names == model.names and torch.equal(made.stride, model.stride) and made.task == "detect"
    assert made.predict(X) == model.predict(X) and made.label(7) == "other"
    assert made.device == model.device and made.threshold == 0.5 and made.scaled(2) == 4
    assert made.kind() == "Detector" and made.inner.width == 16
    assert not hasattr(made, "callback") and not hasattr(made, "nothing")


def test_a_slim_model_has_its_data_and_methods() -> None:
    model = detector()
    slim: Any = shrink(model, X)
    assert_belongs(slim, model)
    assert slim.config.size == (12, 12) and slim.config is not model.config and slim.names is not model.names
    assert str(slim.report()).startswith("Layers")
    assert_belongs(copy.deepcopy(slim), model)
    assert copy.deepcopy(slim).config.deep == {"x": [1, None]}
    again: Any = shrink(slim, X)
    assert_belongs(again, model)
    with pytest.raises(AttributeError, match="embed"):
        again.embed(X)


@pytest.mark.parametrize("name", ["features", "embed", "count"])
def test_a_method_that_uses_layers_by_itself_is_refused_where_they_changed(name: str) -> None:
    slim = shrink(detector(), X)
    assert not hasattr(slim, name)
    layers = "children" if name == "count" else "stem"
    with pytest.raises(AttributeError) as error:
        getattr(slim, name)
    assert str(error.value) == (
        f"{name} at SlimDetector: it uses {layers} directly, and layers are smaller here. "
        "Call it on the model given to shrink."
    )


def test_a_model_that_is_only_captured_or_sparse_has_all_methods() -> None:
    model = detector()
    sparse: Any = sparsify(model, "filter", sparsity=0.5, example_inputs=X)
    for made in (trace(model, X).module, sparse):
        assert_belongs(made, model)
        torch.testing.assert_close(made.embed(X), model.embed(X))
    sparse.shrink()


def test_a_pickle_holds_data_and_no_code() -> None:
    model = detector()
    made = pickle.loads(pickle.dumps(shrink(model, X)))
    assert_belongs(made, model)  # its class is at hand here
    assert not hasattr(made, "config") and not hasattr(made.inner, "options")
    torch.testing.assert_close(made(X), model(X))


def test_the_class_need_not_be_there_to_load_a_pickle() -> None:
    class Local(Detector):
        pass

    model = Local().eval()
    made = pickle.loads(pickle.dumps(shrink(model, X)))
    torch.testing.assert_close(made(X), model(X))
    assert made.names == model.names and not hasattr(made, "predict")


def test_a_slim_model_with_belongings_is_exported(tmp_path: Any) -> None:
    model = detector()
    export(shrink(model, X), tmp_path / "net.pt2", X)
    torch.testing.assert_close(load(tmp_path / "net.pt2")(X), model(X))
    export(shrink(model, X), tmp_path / "net.safetensors", X)


def test_methods_of_torch_stay_those_of_the_captured_model() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    assert not hasattr(shrink(model, X), "append")
