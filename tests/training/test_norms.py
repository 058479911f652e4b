"""`update_norms`: BatchNorm statistics after pruning at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import campfire_fx
from campfire_fx import TrainError, update_norms

IMAGES = torch.randn(24, 3, 8, 8) * 3 + 1


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4)
    return nn.Sequential(*layers).eval()


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean((0, 2, 3)), x.var((0, 2, 3))


@pytest.mark.parametrize("training", [False, True])
def test_statistics_are_those_of_the_images(training: bool) -> None:
    model = net().train(training)
    weights = [parameter.clone() for parameter in model.parameters()]
    assert update_norms(model, DataLoader(TensorDataset(IMAGES, torch.zeros(24)), 24)) is model
    with torch.no_grad():
        hidden = model[0](IMAGES)
        mean, var = moments(hidden)
        torch.testing.assert_close((model[1].running_mean, model[1].running_var), (mean, var), rtol=1e-4, atol=1e-4)
        normed = nn.functional.batch_norm(
            hidden, mean, hidden.var((0, 2, 3), correction=0), model[1].weight, model[1].bias
        )
        mean, var = moments(model[4](normed.relu()))  # no dropout
    torch.testing.assert_close((model[5].running_mean, model[5].running_var), (mean, var), rtol=1e-3, atol=1e-3)
    assert all(map(torch.equal, weights, model.parameters()))
    assert all(module.training is training for module in model.modules())
    assert model[1].momentum == 0.1


@pytest.mark.parametrize("form", [lambda x: x, lambda x: {"pixel_values": x, "labels": 0}, lambda x: (x, 0)])
def test_batches_of_any_form_and_so_many_of_them(form: Any) -> None:
    one, other = net(), net()
    update_norms(one, [form(IMAGES[:8]), form(IMAGES[8:16]), form(IMAGES[16:])], count=2)
    update_norms(other, [IMAGES[:8], IMAGES[8:16]])
    assert one[1].running_mean.equal(other[1].running_mean) and one[1].num_batches_tracked == 2


def test_a_pruned_network_and_its_slim_form_agree() -> None:
    sparse = campfire_fx.sparsify(net(), "filter", sparsity=0.5, example_inputs=IMAGES[:2]).finalize().eval()
    update_norms(sparse, [IMAGES])
    slim = sparse.shrink()
    expected = sparse(IMAGES)
    update_norms(slim, [IMAGES])
    torch.testing.assert_close(slim.eval()(IMAGES), expected, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(TrainError, match="has no BatchNorm with running statistics"):
        update_norms(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)), [IMAGES])
    with pytest.raises(TrainError, match="there was no batch"):
        update_norms(net(), [])
