"""Purification: what goes, that it ripples through unused paths, that it stays zero, and that the change is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import campfire_fx
from campfire_fx.base.errors import ShrinkError
from tests.sparse_training import SGD, batches, layer, sparse, train


class Chain(nn.Module):
    """Three convolutions in a row; `first` and `last` hold a zero, so they are looked at too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.middle = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 5, 3, bias=False)
        self.last = nn.Conv2d(5, 2, 1)
        for conv in (self.first, self.middle, self.last):
            nn.init.uniform_(conv.weight, 0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x).relu()).relu()).mean((2, 3))


IMAGES = torch.rand(4, 3, 12, 12)


def purified(model: nn.Module, **wishes: Any) -> campfire_fx.Purification:
    return campfire_fx.purify(model.eval(), IMAGES, **({"layers": ["*"]} | wishes))


def test_columns_below_their_share_go_and_no_others() -> None:
    model = Chain()
    with torch.no_grad():
        model.middle.weight[:, 1, 0, 2] = 0.01
        model.middle.weight[:, 3, 1, 1] *= 0.9
    result = purified(model, column=0.1)
    expected = torch.ones_like(model.middle.weight, dtype=torch.bool)
    expected[:, 1, 0, 2] = False
    found = result.model.get_submodule("middle").weight
    assert torch.equal(found != 0, expected) and torch.equal(found[expected], model.middle.weight[expected])
    told = {row.name: (row.columns, row.channels, row.weights) for row in result.layers}
    assert told == {"first": ((0, 27), (0, 3), 0), "middle": ((1, 36), (0, 4), 5), "last": ((0, 5), (0, 5), 0)}
    assert result.layers[1].share == pytest.approx(5 * 1e-4 / float(model.middle.weight.detach().square().sum()))


def test_a_channel_goes_by_its_norm_or_its_emptiness() -> None:
    model = Chain()
    with torch.no_grad():
        model.middle.weight[:, 0] *= 0.05
        model.middle.weight[:, 2].flatten(1)[:, :6] = 0
    by_norm = purified(model, channel=0.2).model.get_submodule("middle").weight
    by_emptiness = purified(model, emptiness=0.6).model.get_submodule("middle").weight
    neither = purified(model, emptiness=0.7).model.get_submodule("middle").weight
    assert by_norm.flatten(2).abs().sum((0, 2)).ne(0).tolist() == [False, True, True, True]
    assert by_emptiness.flatten(2).abs().sum((0, 2)).ne(0).tolist() == [True, True, False, True]
    assert torch.equal(neither, model.middle.weight)


def test_what_no_one_reads_any_more_does_not_count_in_the_layer_before() -> None:
    """Columns of `first` that only one filter holds up are next to nothing once that filter is unread."""
    model = Chain()
    with torch.no_grad():
        model.middle.weight[:, 0] *= 0.01  # the channel goes, and with it filter 0 of `first`
        model.first.weight[1:, 2] *= 0.01
    result = purified(model, channel=0.2, column=0.15)
    assert not result.model.get_submodule("first").weight[:, 2].any()
    slim = campfire_fx.shrink(result.model, IMAGES)
    assert slim.get_submodule("first").weight.shape[0] == 3 and slim.verification.difference < 1e-5


def test_one_channel_always_stays() -> None:
    model = Chain()
    with torch.no_grad():
        model.middle.weight.flatten(2)[..., :6] = 0
        model.middle.weight[:, 2] *= 2
    found = purified(model, emptiness=0.1).model.get_submodule("middle").weight
    assert found.flatten(2).abs().sum((0, 2)).ne(0).tolist() == [False, False, True, False]


def test_the_change_of_the_output_is_that_on_the_examples() -> None:
    model = Chain()
    with torch.no_grad():
        model.middle.weight[:, 1] *= 0.3
    result = purified(model, channel=0.5)
    before, after = model(IMAGES).detach(), result.model.eval()(IMAGES).detach()
    assert result.difference == pytest.approx(float((before - after).abs().max() / before.abs().max()), rel=1e-5)
    assert result.difference > 1e-3
    text = str(result.report())
    assert "channel 0.5" in text and "middle" in text and f"moved by {result.difference:.1e}" in text


def test_the_model_given_is_left_as_it_was() -> None:
    model = Chain()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = purified(model, column=0.9)
    assert result.layers[0].weights > 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "conv", [nn.ConvTranspose2d(4, 6, 3, groups=2), nn.Conv2d(4, 6, 3, groups=2)], ids=["transposed", "grouped"]
)
def test_groups_and_transposed_convolutions_lose_inputs_too(conv: Any) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), conv)
    channel = (3,) if isinstance(conv, nn.ConvTranspose2d) else (slice(3, 6), 1)  # input 3: the second of group 2
    with torch.no_grad():
        conv.weight[channel] *= 1e-3
    found = campfire_fx.purify(model, IMAGES, channel=0.1, layers=["2"]).model.get_submodule("2").weight
    assert not found[channel].any() and int((found == 0).sum()) == found[channel].numel()


def test_only_convolutions_with_zeros_are_looked_at_unless_named() -> None:
    model = Chain()
    with torch.no_grad():
        model.last.weight[0, 0] = 0
    assert [row.name for row in campfire_fx.purify(model, IMAGES, column=0.1).layers] == ["last"]
    assert [row.name for row in campfire_fx.purify(model, IMAGES, column=0.1, layers=["m*"]).layers] == ["middle"]


def test_masks_of_a_sparse_model_keep_what_went_at_zero() -> None:
    model = sparse("admm-column", sparsity=0.5).finalize()
    result = campfire_fx.purify(model, column=0.95)
    sparser = result.model
    assert isinstance(sparser, campfire_fx.SparseModel) and sparser.sparsity().zeros > model.sparsity().zeros
    gone = sum(row.weights for row in result.layers)
    assert sparser.sparsity().zeros - model.sparsity().zeros == gone
    zeros = ~layer(sparser, "conv2").mask
    optimizer = SGD(sparser.parameters(), 0.05, momentum=0.9)
    sparser.attach(optimizer, steps_per_epoch=2)
    for _ in train(sparser, optimizer, batches(4)):
        assert not layer(sparser, "conv2").weight[zeros].any()
    slim = sparser.eval().shrink()
    assert slim.verification is not None and slim.verification.difference < 1e-5


@pytest.mark.parametrize(
    ("wishes", "text"),
    [
        ({}, "purify: no threshold was given, so nothing would change"),
        ({"column": 1.0}, r"purify: column=1.0 is outside \[0, 1\)"),
        ({"emptiness": 0}, r"purify: emptiness=0 is outside \(0, 1\]"),
        ({"column": 0.1, "layers": None}, "no convolution holds a zero weight. Name the layers"),
        ({"column": 0.1, "layers": ["nope"]}, r"no convolution has a path like \['nope'\]"),
    ],
)
def test_what_makes_no_sense_is_refused(wishes: dict[str, Any], text: str) -> None:
    with pytest.raises(ShrinkError, match=text):
        purified(Chain(), **wishes)


def test_in_the_era_it_refuses() -> None:
    with pytest.raises(ShrinkError, match="the pruning era is not over, masks still move. Call finalize"):
        campfire_fx.purify(sparse("admm-column"), column=0.1)
