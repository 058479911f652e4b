"""Every layer of torch.nn is built again from what it says of itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from campfire_fx.base.errors import ExportError
from campfire_fx.export.layers import Rebuilder, construction
from campfire_fx.layers.masked import mask_layer

LAYERS = {
    "nn.Conv2d(3, 13, kernel_size=3, padding=1, bias=False)": nn.Conv2d(3, 13, 3, padding=1, bias=False),
    "nn.Conv2d(4, 6, kernel_size=(3, 1), stride=(2, 1), groups=2)": nn.Conv2d(4, 6, (3, 1), (2, 1), groups=2),
    'nn.Conv1d(2, 4, kernel_size=5, padding="same", padding_mode="reflect")': nn.Conv1d(
        2, 4, 5, padding="same", padding_mode="reflect"
    ),
    "nn.Conv3d(1, 2, kernel_size=3, dilation=2, dtype=torch.float64)": nn.Conv3d(1, 2, 3, dilation=2).double(),
    "nn.ConvTranspose2d(4, 2, kernel_size=2, stride=2, output_padding=1)": nn.ConvTranspose2d(
        4, 2, 2, 2, output_padding=1
    ),
    "nn.Linear(4, 5, bias=False)": nn.Linear(4, 5, bias=False),
    "nn.Bilinear(2, 3, 4)": nn.Bilinear(2, 3, 4),
    "nn.BatchNorm2d(4, eps=0.001, momentum=None, affine=False)": nn.BatchNorm2d(4, 1e-3, None, affine=False),
    "nn.BatchNorm1d(4, track_running_stats=False)": nn.BatchNorm1d(4, track_running_stats=False),
    "nn.InstanceNorm2d(4, affine=True, track_running_stats=True)": nn.InstanceNorm2d(
        4, affine=True, track_running_stats=True
    ),
    "nn.GroupNorm(2, 4, eps=0.1)": nn.GroupNorm(2, 4, eps=0.1),
    "nn.LayerNorm((4, 4), bias=False)": nn.LayerNorm((4, 4), bias=False),
    "nn.LocalResponseNorm(5, alpha=0.1)": nn.LocalResponseNorm(5, alpha=0.1),
    "nn.PReLU(num_parameters=4)": nn.PReLU(4),
    "nn.LeakyReLU(negative_slope=0.2, inplace=True)": nn.LeakyReLU(0.2, inplace=True),
    "nn.Hardtanh(min_val=-2.0, max_val=0.5)": nn.Hardtanh(-2.0, 0.5),
    'nn.GELU(approximate="tanh")': nn.GELU("tanh"),
    "nn.Softmax(dim=1)": nn.Softmax(dim=1),
    "nn.Threshold(0.1, 20)": nn.Threshold(0.1, 20),
    "nn.MaxPool2d(kernel_size=3, stride=2, padding=1)": nn.MaxPool2d(3, 2, 1),
    "nn.AvgPool2d(kernel_size=2, stride=2, count_include_pad=False)": nn.AvgPool2d(2, count_include_pad=False),
    "nn.AdaptiveAvgPool2d((None, 7))": nn.AdaptiveAvgPool2d((None, 7)),
    "nn.ZeroPad2d(padding=(1, 0, 2, 1))": nn.ZeroPad2d((1, 0, 2, 1)),
    'nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True)': nn.Upsample(
        scale_factor=2, mode="bilinear", align_corners=True
    ),
    "nn.Unflatten(1, (2, 2))": nn.Unflatten(1, (2, 2)),
    "nn.PixelShuffle(2)": nn.PixelShuffle(2),
    "nn.Dropout2d(p=0.25)": nn.Dropout2d(0.25),
    "nn.Identity()": nn.Identity(3, x=4),
    "nn.Embedding(10, 4, padding_idx=0)": nn.Embedding(10, 4, padding_idx=0),
    "nn.GRU(3, 4, bias=False, dtype=torch.float64)": nn.GRU(3, 4, bias=False).double(),
    'nn.RNN(3, 4, nonlinearity="relu")': nn.RNN(3, 4, nonlinearity="relu"),
    "nn.LSTM(3, 4, batch_first=True, proj_size=2)": nn.LSTM(3, 4, batch_first=True, proj_size=2),
    "nn.MultiheadAttention(8, 2, bias=False, add_bias_kv=True, kdim=4, vdim=8)": nn.MultiheadAttention(
        8, 2, bias=False, add_bias_kv=True, kdim=4
    ),
}


@pytest.mark.parametrize("text", LAYERS)
def test_layer_is_written_as_a_person_would_and_comes_out_the_same(text: str) -> None:
    layer = LAYERS[text]
    assert construction(layer, "it").text == text
    built = eval(text, {"nn": nn, "torch": torch})
    assert repr(built) == repr(layer)
    assert {k: (v.shape, v.dtype) for k, v in built.state_dict().items()} == {
        k: (v.shape, v.dtype) for k, v in layer.state_dict().items()
    }


def test_masked_pruned_and_parametrised_layers_become_plain_ones_with_the_weights_they_use() -> None:
    masked = nn.Conv2d(2, 3, 3)
    mask_layer(masked)
    masked.set_mask(torch.rand(3, 2, 3, 3) < 0.5)
    pruned = prune.random_unstructured(nn.Conv2d(2, 3, 3), "weight", 0.5)
    normed = parametrizations.weight_norm(nn.Conv2d(2, 3, 3))
    x = torch.randn(1, 2, 5, 5)
    for layer in (masked, pruned, normed):
        plain = Rebuilder().layer(layer, "it")
        assert type(plain) is nn.Conv2d
        assert sorted(plain.state_dict()) == ["bias", "weight"]
        assert torch.equal(plain(x), layer(x))


def test_objects_that_were_one_stay_one() -> None:
    rebuild = Rebuilder()
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    assert rebuild.layer(first, "a") is rebuild.layer(first, "b")
    assert rebuild.layer(first, "a").weight is rebuild.layer(second, "c").weight
    assert rebuild.layer(first, "a").weight is not first.weight


class Scaled(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


def test_layers_with_a_computation_of_their_own_are_refused() -> None:
    with pytest.raises(ExportError, match=r"at body\.it: Scaled is not a layer of torch\.nn"):
        construction(Scaled(1, 1, 1), "body.it")


def test_layer_whose_settings_do_not_fit_its_tensors_is_refused() -> None:
    layer = nn.Linear(4, 3)
    layer.weight = nn.Parameter(torch.zeros(2, 4))
    with pytest.raises(ExportError, match=r"weight at fc: .*\(3, 4\), it holds \(2, 4\)"):
        Rebuilder().layer(layer, "fc")


def test_layer_that_does_not_keep_what_it_was_built_with_is_refused() -> None:
    with pytest.raises(ExportError, match=r"at body: nn\.TransformerEncoderLayer does not keep its argument 'd_model'"):
        construction(nn.TransformerEncoderLayer(4, 2), "body")
