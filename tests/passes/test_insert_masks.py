"""Inserting masks: which layers get one, which are stems, which norms follow, and what is left out and why."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import campfire_fx
from campfire_fx.analysis.captured import Captured, Island, Variant
from campfire_fx.capture import trace
from campfire_fx.layers.masked import MaskedConv2d, MaskedLayer
from campfire_fx.passes.insert_masks import Insertion, Norm, insert_masks
from campfire_fx.passes.runner import apply

IMAGE = torch.randn(1, 3, 8, 8)


def inserted(model: nn.Module, *inputs: Tensor) -> tuple[Captured, Insertion]:
    captured = trace(model, inputs or (IMAGE,))
    (insertion,) = apply(captured, insert_masks)
    return captured, insertion


def conv(c: int = 3, k: int = 4, size: int = 3, **options: int) -> nn.Conv2d:
    return nn.Conv2d(c, k, size, padding=size // 2, **options)


class Residual(nn.Module):
    """Two stems, a norm behind each convolution, an add, a 1x1, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.left_norm = conv(), nn.BatchNorm2d(4)
        self.right, self.right_norm = conv(size=1), nn.BatchNorm2d(4)
        self.point, self.point_norm = conv(4, 4, 1), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.left_norm(self.left(x)) + self.right_norm(self.right(x)))
        return self.fc(self.point_norm(self.point(x)).mean((2, 3)))


def test_layers_are_masked_in_place_and_described() -> None:
    model = Residual()
    expected = model.eval()(IMAGE)
    captured, insertion = inserted(model)
    assert [(f.name, f.operation, f.kernel, f.linear, f.stem) for f in insertion.layers] == [
        ("left", "Conv2d", 9, False, True),
        ("right", "Conv2d", 1, False, True),
        ("point", "Conv2d", 1, False, False),
        ("fc", "Linear", 1, True, False),
    ]
    assert isinstance(captured.module.get_submodule("left"), MaskedConv2d)
    assert torch.equal(captured.module(IMAGE), expected)
    assert insertion.unmasked == ()


def test_norms_are_paired_with_the_convolutions_before_them() -> None:
    _, insertion = inserted(Residual())
    assert insertion.norms == (
        Norm("left_norm", ("left",)),
        Norm("right_norm", ("right",)),
        Norm("point_norm", ("point",)),
    )


class Nets:
    """Where a norm may not follow its convolution's mask, and where it may."""

    class Fanout(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = conv(), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.norm(x) + x  # someone else reads the convolution

    class SharedNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.norm = conv(), conv(), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.a(x)) + self.norm(self.b(x))

    class NormOfSum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.norm = conv(), conv(), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.a(x) + self.b(x))

    class NormTwice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = conv(), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.norm(self.conv(x)))  # the second call reads the first

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.fc, self.norm = conv(), nn.Linear(64, 4), nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.fc(self.stem(x).flatten(2)))  # outputs of fc are the last axis, not the second

    class ConvTwice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.first, self.second = conv(3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.conv(self.first(self.conv(x))))


def test_a_norm_qualifies_only_if_nothing_else_is_behind_or_beside_it() -> None:
    norms = {net: inserted(getattr(Nets, net)())[1].norms for net in vars(Nets) if not net.startswith("_")}
    assert norms == {
        "Fanout": (),
        "SharedNorm": (Norm("norm", ("a", "b")),),
        "NormOfSum": (),
        "NormTwice": (),
        "Linear": (),
        "ConvTwice": (Norm("first", ("conv",)), Norm("second", ("conv",))),
    }


class Leftovers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.own = conv(3, 4), nn.Parameter(torch.randn(4, 4, 3, 3))
        self.normed = nn.utils.parametrizations.weight_norm(conv(4, 4))
        self.first, self.alias = conv(4, 4), None
        self.alias = self.first
        self.tied = conv(4, 4)
        self.tied.weight = self.first.weight
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.normed(F.conv2d(self.stem(x), self.own, padding=1))
        x = self.tied(self.alias(self.first(x)))
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


def test_what_holds_no_mask_is_named_with_its_reason() -> None:
    captured, insertion = inserted(Leftovers())
    assert [f.name for f in insertion.layers] == ["stem", "first"]  # one module under two names is one layer
    reasons = dict(insertion.unmasked)
    assert reasons["normed.parametrizations.weight.original1"].startswith("a weight is computed from it")
    assert reasons["tied"] == "it shares the weight of first, and its mask"
    assert reasons["own"] == "a function reads it, not a layer"
    assert reasons["attention.in_proj_weight"] == "it belongs to a MultiheadAttention"
    assert captured.module.get_submodule("alias") is captured.module.get_submodule("first")
    assert isinstance(captured.module.get_submodule("tied"), MaskedLayer)


def test_a_layer_after_a_weighted_function_is_no_stem() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own, self.conv = nn.Parameter(torch.randn(4, 3, 3, 3)), conv(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(F.conv2d(x, self.own))

    _, insertion = inserted(Functional())
    assert [(f.name, f.stem) for f in insertion.layers] == [("conv", False)]


def test_islands_are_masked_under_their_paths() -> None:
    class Python(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = Residual(), nn.Sequential(conv(2, 2), nn.BatchNorm2d(2))
            self.other = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x)[:, :, None, None])

    model = Python().eval()
    expected = model(IMAGE)
    islands = []
    for path, example in (("body", IMAGE), ("head", torch.randn(1, 2, 1, 1))):
        module = trace(model.get_submodule(path), (example,)).islands[0].module
        setattr(model, path, module)
        islands.append(Island(path, module, (Variant((((example,), {}),)),)))
    untraced = (("other", "it stayed Python"), ("body.fc", "no weight of it is left without a mask"))
    (insertion,) = apply(Captured(model, tuple(islands), untraced, (IMAGE,), {}), insert_masks)
    assert [f.name for f in insertion.layers] == ["body.left", "body.right", "body.point", "body.fc", "head.0"]
    assert [f.name for f in insertion.layers if f.stem] == ["body.left", "body.right"]
    assert Norm("head.1", ("head.0",)) in insertion.norms
    assert insertion.unmasked == (("other", "it stayed Python"),)
    assert torch.equal(model(IMAGE), expected)


class InAList(nn.Module):
    """A layer that no attribute registers: its weight has no name in the model."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.others = [nn.Conv2d(4, 4, 1)]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.others[0](self.stem(x)))


def test_a_layer_that_is_not_registered_stays_as_it_is() -> None:
    x = torch.randn(1, 3, 6, 6)
    sparse = campfire_fx.sparsify(InAList(), sparsity=0.5, overrides={"stem": 0.5}, example_inputs=x)
    assert isinstance(sparse.get_submodule("stem"), MaskedLayer)
    assert sparse.eval()(x).shape == (1, 4, 4, 4)
