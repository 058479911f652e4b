"""Where the whole cannot be captured, its largest parts are, and put back in place."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.capture import trace
from campfire_fx.layers.dual import DualGraphModule
from tests.capture.checks import assert_trains_alike, call, same
from tests.snapshot import Snapshot, assert_untouched

X = torch.randn(2, 3, 10, 10)


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


class Head(nn.Module):
    """A part with a method and an attribute that the code around it uses."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels = 4
        self.body = nn.ModuleList([block(4, 4), block(4, 4)])

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        return {str(i): self.body[i](feature) for i, feature in enumerate(features)}

    def loss(self, outputs: dict[str, Tensor]) -> Tensor:
        return sum(value.mean() for value in outputs.values()) * self.scale

    @property
    def scale(self) -> float:
        return float(len(self.body))


class Detector(nn.Module):
    """Data decides between the stem and the head; the head gets a list; a layer is called directly, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 4)
        self.head = Head()
        self.last = nn.Conv2d(4, 2, 1)
        self.auxiliary = block(4, 4)
        self.twice = self.stem
        self.order = [self.stem, self.head]

    def forward(self, x: Tensor) -> Any:
        x = self.order[0](x)
        if x.mean() > 1e6:
            return self.auxiliary(x)
        outputs = self.head([x, x[:, :, ::2]])
        assert self.head.out_channels == 4
        y = self.last(outputs["0"])
        return {"loss": self.head.loss(outputs)} if self.training else (y, outputs)


def checked(model: nn.Module, example: Any, *others: Any) -> Captured:
    snapshot, state = Snapshot.of(model), copy.deepcopy(model.state_dict())
    captured = trace(model, example)
    assert_untouched(model, snapshot)
    assert not captured.whole
    assert list(captured.module.state_dict()) == list(state)
    assert {id(p) for p in captured.module.parameters()} == {id(p) for p in model.parameters()}
    for inputs in (example, *others):
        with torch.no_grad():
            assert same(call(captured.module.eval(), inputs), call(model.eval(), inputs))
        assert_trains_alike(captured.module, model, inputs)
    return captured


def test_the_largest_parts_become_islands() -> None:
    model = Detector()
    captured = checked(model, X, torch.randn(1, 3, 12, 8))
    assert [island.path for island in captured.islands] == ["stem", "head"]
    reasons = dict(captured.untraced)
    assert reasons.keys() == {"", "last", "auxiliary"}
    assert "Control flow at test_islands.py:" in reasons[""]
    assert reasons["last"] == "called by code that cannot be captured; stays as it is"
    assert reasons["auxiliary"] == "never called on the example"
    module = captured.module
    assert type(module) is Detector and isinstance(module.stem, DualGraphModule)
    assert module.twice is module.stem and module.order == [module.stem, module.head]
    assert module.last is model.last and module.head.scale == 2.0


def test_islands_run_on_their_example() -> None:
    for island in checked(Detector(), X).islands:
        assert island.module(*island.args, **island.kwargs) is not None
        assert not any(t.requires_grad for t in island.args if isinstance(t, Tensor))
    stem = trace(Detector(), X).islands[0]
    assert stem.args[0].shape == X.shape and stem.args[0].std() > 0.5


def test_copies_of_the_whole_carry_the_islands() -> None:
    captured = checked(Detector(), X)
    copied = copy.deepcopy(captured.module)
    assert same(copied(X), captured.module(X))
    assert isinstance(copied.stem, DualGraphModule) and copied.twice is copied.stem
    assert copied.order[0] is copied.stem


def test_a_part_whose_parts_are_called_from_outside_is_split() -> None:
    class Model(Detector):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            y = self.head([x, x])["0"] if x.sum() < 1e9 else x
            return self.head.body[0](y)

    captured = checked(Model(), X)
    assert [island.path for island in captured.islands] == ["stem", "head.body.0", "head.body.1"]
    assert ("head", "code outside of it uses parts of it") in captured.untraced


def test_a_part_that_takes_another_way_on_its_second_call_is_split() -> None:
    class Choosy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = block(4, 4), block(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) if x.shape[-1] > 6 else self.two(x)

    class Model(Detector):
        def __init__(self) -> None:
            super().__init__()
            self.choosy = Choosy()

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x) if x.sum() < 1e9 else x
            return self.choosy(x).mean() + self.choosy(x[..., ::2]).mean()

    captured = checked(Model(), X)
    assert [island.path for island in captured.islands] == ["stem", "choosy.one", "choosy.two"]
    assert "takes another branch on the second input" in dict(captured.untraced)["choosy"]


def test_training_that_cannot_be_captured_keeps_the_models_own() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.tail = block(3, 4), block(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            if self.training and torch.rand(1) < 0.5:
                return x
            return self.tail(x)

    captured = checked(Model(), X)
    assert [island.path for island in captured.islands] == ["stem", "tail"]


def test_forward_replaced_on_an_instance() -> None:
    model = Detector()
    original = model.forward
    model.forward = lambda x: original(x)
    captured = trace(model, X)
    assert len(captured.islands) == 2


@pytest.mark.parametrize("hook", ["pre", "post"])
def test_hooks_around_islands_still_run(hook: str) -> None:
    model = Detector().eval()
    seen: list[str] = []
    if hook == "pre":
        model.stem.register_forward_pre_hook(lambda module, inputs: seen.append("stem"))
    else:
        model.stem.register_forward_hook(lambda module, inputs, output: seen.append("stem"))
    captured = trace(model, X)
    seen.clear()
    captured.module(X)
    assert seen == ["stem"]


DETECTORS = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": {"min_size": 64, "max_size": 64},
    "retinanet_resnet50_fpn": {"min_size": 64, "max_size": 64},
    "ssdlite320_mobilenet_v3_large": {},
}


@pytest.mark.parametrize("name", DETECTORS)
def test_every_convolution_of_a_detector_is_in_an_island(name: str) -> None:
    import torchvision

    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, **DETECTORS[name]).eval()
    images = [torch.rand(3, 64, 64), torch.rand(3, 48, 60)]
    captured = trace(model, (images,))
    inside = {id(module) for island in captured.islands for module in island.module.modules()}
    assert all(id(m) in inside for m in model.modules() if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        assert same(captured.module(images), model(images))
    target = {"boxes": torch.tensor([[1.0, 1.0, 20.0, 30.0]]), "labels": torch.tensor([1])}
    captured.module.train()
    losses = captured.module(images, [target, target])
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("boxes", [0, 40])
def test_a_part_called_on_none_or_many_is_captured_on_a_few(boxes: int) -> None:
    class Model(nn.Module):
        """The second stage gets as many crops as the first finds."""

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = block(3, 4), nn.Sequential(block(4, 4), nn.Flatten(), nn.Linear(64, 3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            found = [x[0, :, :4, :4]] * (boxes if x.sum() < 1e9 else 1)
            return self.head(torch.stack(found) if found else x.new_zeros(0, 4, 4, 4))

    model = Model().eval()
    captured = trace(model, X)
    assert [island.path for island in captured.islands] == ["stem", "head"]
    assert captured.islands[1].args[0].shape == (2, 4, 4, 4)
    with torch.no_grad():
        assert same(captured.module(X), model(X))
