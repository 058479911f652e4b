"""One step of FGSM: where it goes, how far, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from campfire_fx.app.robustness import Normalisation, fgsm
from campfire_fx.base.errors import AttackError

PLAIN = Normalisation((0.0,), (1.0,))
COLOUR = Normalisation((0.2, 0.4, 0.6), (0.1, 0.2, 0.5))


def network(channels: int = 3) -> nn.Sequential:
    layers = nn.Conv2d(channels, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(24, 5))


def images(n: int = 4, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(n, channels, 8, 8), torch.arange(n) % 5


def test_a_step_goes_along_the_sign_of_the_gradient() -> None:
    """Against a gradient by finite differences, in float64, of the loss as a function of the raw image."""
    net, (x, y) = network().double().eval(), images(2)
    x = 0.25 + 0.5 * x.double()  # far from the limits
    found = fgsm(net, x, y, 0.01, normalisation=COLOUR)
    for n, c, h, w in [(0, 0, 0, 0), (0, 2, 5, 3), (1, 1, 7, 7), (1, 0, 4, 4)]:
        shift = torch.zeros_like(x)
        shift[n, c, h, w] = 1e-6
        losses = [F.cross_entropy(net(COLOUR(moved)), y, reduction="sum") for moved in (x + shift, x - shift)]
        slope = float((losses[0] - losses[1]).detach() / 2e-6)
        assert abs(slope) > 1e-6
        assert float(found[n, c, h, w] - x[n, c, h, w]) == pytest.approx(math.copysign(0.01, slope), abs=1e-7)


def test_a_step_raises_the_loss_of_a_linear_network_by_epsilon_times_the_gradient() -> None:
    """For two classes and a linear network the margin falls by exactly epsilon * |w0 - w1|_1 (Goodfellow et al., 3)."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 2)).double()
    x, y = 0.4 + 0.2 * torch.rand(5, 3, 4, 4).double(), torch.tensor([0, 1, 0, 1, 0])
    sides = torch.where(y == 0, 1.0, -1.0).double()
    before, after = ((net(z)[:, 0] - net(z)[:, 1]) * sides for z in (x, fgsm(net, x, y, 0.1, normalisation=PLAIN)))
    weight = net[1].weight
    expected = 0.1 * (weight[0] - weight[1]).abs().sum()
    assert torch.allclose(before - after, expected.expand(5), rtol=1e-12)


def test_results_stay_in_range_and_within_epsilon() -> None:
    x, y = images()
    found = fgsm(network(), x, y, 0.3, normalisation=COLOUR)
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    assert float((found - x).abs().max()) <= 0.3 + 1e-6
    assert bool((found == 0).any()) and bool((found == 1).any())
    free = fgsm(network(), x, y, 0.3, normalisation=COLOUR, valid=None)
    assert float(free.min()) < 0 and float(free.max()) > 1


def test_normalised_steps_are_in_standard_deviations() -> None:
    net, (x, y) = network(), images()
    found = fgsm(net, x, y, 0.1, normalisation=COLOUR, space="normalised", valid=None)
    moved = (COLOUR(found) - COLOUR(x)).abs().amax((0, 2, 3))
    assert torch.allclose(moved, torch.full((3,), 0.1), atol=1e-5)
    assert torch.allclose((found - x).abs().amax((0, 2, 3)), torch.tensor(COLOUR.std) * 0.1, atol=1e-6)


def test_epsilon_0_changes_nothing() -> None:
    x, y = images()
    assert torch.equal(fgsm(network(), x, y, 0.0, normalisation=COLOUR), x)


def test_batches_do_not_matter() -> None:
    net, (x, y) = network(), images(6)
    whole = fgsm(net, x, y, 0.1, normalisation=COLOUR)
    single = torch.cat([fgsm(net, x[i : i + 1], y[i : i + 1], 0.1, normalisation=COLOUR) for i in range(6)])
    assert torch.allclose(whole, single)


def test_the_network_is_left_as_it_was() -> None:
    net, (x, y) = network(), images()
    net[0].eval()
    net[0].weight.requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.no_grad():
        fgsm(net, x, y, 0.1, normalisation=COLOUR)
    assert net.training and not net[0].training
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert not x.requires_grad


def test_bfloat16_networks_can_be_attacked() -> None:
    x, y = images()
    found = fgsm(network().bfloat16(), x, y, 0.1, normalisation=COLOUR)
    assert found.dtype == torch.float32 and not torch.equal(found, x)


@pytest.mark.parametrize(("epsilon", "text"), [
    (-0.1, "Epsilon -0.1: it is not the size"),
    (float("nan"), "Epsilon nan"),
    (float("inf"), "Epsilon inf"),
])  # fmt: skip
def test_what_is_no_size_is_refused(epsilon: float, text: str) -> None:
    with pytest.raises(AttackError, match=text):
        fgsm(network(), *images(), epsilon, normalisation=COLOUR)


X, Y = torch.full((2, 3, 8, 8), 0.5), torch.tensor([0, 1])


@pytest.mark.parametrize(("x", "y", "wishes", "text"), [
    (X, Y, {"normalisation": None}, "without the network's normalisation epsilon has no unit"),
    (X, None, {}, "Classes of 2 images: found NoneType"),
    (X, Y[:1], {}, r"found torch.int64 \(1,\)"),
    (X, Y.float(), {}, "found torch.float32"),
    (X, torch.tensor([0, 5]), {}, "they go from 0 to 5, the network knows 5"),
    (X.byte(), Y, {}, "cannot be moved by a fraction"),
    (X[0], Y, {}, "cannot be moved by a fraction"),
    (X * float("nan"), Y, {}, "some values are not finite"),
    (X * 3, Y, {}, "from 1.5 to 1.5, outside of valid"),
    (X, Y, {"normalisation": Normalisation((0.5, 0.5), (1.0, 1.0))}, "it has 2 channels, the images have 3"),
    (X, Y, {"space": "pixels"}, 'space="pixels" is not known'),
    (X, Y, {"valid": (1.0, 0.0)}, "is not a range"),
])  # fmt: skip
def test_what_cannot_be_attacked_is_refused(x, y, wishes: dict, text: str) -> None:
    with pytest.raises(AttackError, match=text):
        fgsm(network(), x, y, 0.1, **{"normalisation": COLOUR} | wishes)


@pytest.mark.parametrize(("net", "text"), [
    (nn.Conv2d(3, 5, 3), r"it gives shape \(2, 5, 6, 6\), not a score for each class"),
    (nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.Threshold(1e9, float("nan"))), "its outputs are not finite"),
])  # fmt: skip
def test_what_is_no_classifier_is_refused(net: nn.Module, text: str) -> None:
    with pytest.raises(AttackError, match=text):
        fgsm(net, X, Y, 0.1, normalisation=COLOUR)


@pytest.mark.parametrize(("mean", "std", "text"), [
    ((0.5,), (0.0,), "cannot be divided by"),
    ((0.5,), (float("nan"),), "cannot be divided by"),
    ((0.5, 0.5), (1.0,), "2 means and 1 standard deviations"),
    ((), (), "0 means"),
])  # fmt: skip
def test_numbers_that_normalise_nothing_are_refused(mean: tuple, std: tuple, text: str) -> None:
    with pytest.raises(AttackError, match=text):
        Normalisation(mean, std)
