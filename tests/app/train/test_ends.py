"""Classifiers for other classes: replaced where it is plain which layer they are, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from campfire_fx.app.train.ends import give_classes, of_other_classes
from campfire_fx.app.train.models import build_model
from campfire_fx.app.train.networks import resnet8
from campfire_fx.base.errors import TrainError

IMAGES = torch.randn(1, 3, 32, 32)


def convolutional(classes: int) -> nn.Sequential:
    """A network whose classifier is a 1x1 convolution."""
    layers = nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.ReLU(), nn.Conv2d(7, classes, 1, bias=False)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_a_network_is_given_classes() -> None:
    for network, path in ((resnet8(7), "fc"), (convolutional(7), "3")):
        before = {name: value.clone() for name, value in network.state_dict().items()}
        assert give_classes(network, 7, IMAGES, "net") == ()
        assert give_classes(network, 5, IMAGES, "net") == (path,)
        assert network.training and network(torch.randn(2, 3, 32, 32)).shape == (2, 5)
        after = network.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], before[name]) for name in after if name.endswith("conv1.weight"))
        assert len(after[f"{path}.weight"]) == 5


class Summed(nn.Module):
    """Two layers make its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 7), nn.Linear(3, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.mean((2, 3))
        return self.one(x) + self.two(x)


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (Summed(), "it cannot be run on images of 3 x 32 x 32"),
        (nn.Sequential(nn.Conv2d(3, 7, 32), nn.Flatten()), "it has 7 outputs for 5 classes, and it is not clear which"),
        (nn.Conv2d(3, 7, 1), "its output is not one number for each class"),
        (nn.Conv2d(4, 7, 1), "it cannot be run on images of 3 x 32 x 32"),
    ],
)
def test_what_is_not_plain_is_refused(network: nn.Module, told: str) -> None:
    with pytest.raises(TrainError, match=f"MODEL net: {told}"):
        give_classes(network, 5, IMAGES, "net")


def test_weights_for_other_classes_are_found() -> None:
    assert of_other_classes(resnet8(5), resnet8(7).state_dict(), 5) == {"fc": 7}
    assert of_other_classes(convolutional(5), convolutional(7).state_dict(), 5) == {"3": 7}
    assert of_other_classes(resnet8(5), resnet8(5).state_dict(), 5) == {}
    inception = [build_model("inception_v3", classes=n, init_weights=False) for n in (5, 7)]
    assert of_other_classes(inception[0], inception[1].state_dict(), 5) == {"AuxLogits.fc": 7, "fc": 7}


@pytest.mark.parametrize("other", [
    resnet8(7, channels=1),  # the stem, too
    nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 7)),
])  # fmt: skip
def test_other_networks_have_no_classifier_of_this_one(other: nn.Module) -> None:
    assert of_other_classes(resnet8(5), other.state_dict(), 5) == {}


def test_two_numbers_of_classes_are_not_plain() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 5), nn.Linear(4, 5))
    state = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 7), nn.Linear(4, 8)).state_dict()
    assert of_other_classes(network, state, 5) == {}
    wide = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Linear(4, 5))  # a layer of another kind that has as many outputs
    assert of_other_classes(wide, nn.Sequential(nn.Conv2d(3, 7, 3), nn.Linear(4, 7)).state_dict(), 5) == {}
