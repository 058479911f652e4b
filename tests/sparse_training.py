"""A small network, its training loop, and what is asserted of it, for the tests of sparse training."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.sparsity import Regime
from campfire_fx.sparsity.method import CURVATURE, INPUTS
from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify


class Net(nn.Module):
    """A stem, a residual block with norms, a 1x1, and a classifier; a convolution with and one without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.conv1, self.bn1 = nn.Conv2d(6, 8, 3, padding=1, bias=True), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.point = nn.Conv2d(6, 12, 1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + x)
        return self.fc(F.relu(self.point(x)).mean((2, 3)))


SETTINGS: dict[str, dict[str, Any]] = {
    "rigl": {"period": 2},  # so that something happens in a short training
    "network-slimming": {"strength": 0.1},
    "ssl": {"strength": 0.05},
    "greg": {"strength": 0.2},
    "greg-2": {"strength": 0.2},
    "sparse-structure": {"strength": 3.0},
    "prune-train": {"strength": 3.0, "threshold": 0.1},
    "srigl": {"period": 2},
    "dsr": {"period": 2},
    "chase": {"period": 2},
    "dsr-kernel": {"period": 2},
    "channel by gradients": {"regime": "channel", "score": "taylor"},
    "channel by inputs": {"regime": "channel", "score": "nonzeros"},
    "channel to a target": {"regime": "channel", "target": {"macs": 0.5, "parameters": 0.6}},
}
PRUNED = ("conv1", "conv2", "point", "fc")
IMAGE = torch.zeros(1, 3, 8, 8)
OPTIMIZERS: dict[str, Callable[[Iterator[nn.Parameter]], Optimizer]] = {
    "sgd-momentum": lambda p: SGD(p, 0.05, momentum=0.9, weight_decay=1e-3),
    "nesterov": lambda p: SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: Adam(p, 1e-2, weight_decay=1e-3),
    "adamw": lambda p: AdamW(p, 1e-2, amsgrad=True),
    "rmsprop": lambda p: RMSprop(p, 1e-3, momentum=0.9),
}


def batches(count: int, seed: int = 7) -> list[tuple[Tensor, Tensor]]:
    """Images and labels, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(4, 3, 8, 8, generator=generator), torch.randint(0, 5, (4,), generator=generator))
        for _ in range(count)
    ]


def train(model: nn.Module, optimizer: Optimizer, data: list[tuple[Tensor, Tensor]]) -> Iterator[int]:
    """Take one step per batch, handing over after each."""
    model.train()
    for index, (x, y) in enumerate(data):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        yield index


def sparse(regime: str | Regime = "combined", *, seed: int = 3, **wishes: Any) -> SparseModel:
    torch.manual_seed(seed)
    return gathered(sparsify(Net(), **({"era": (1, 4), "example_inputs": IMAGE} | wished(regime) | wishes)))


def gathered(model: SparseModel) -> SparseModel:
    """Show a model the data that it has to see before training, where it has to."""
    kinds = {method.gathers for method, _ in model._life_cycle.gathering}
    return model.gather(batch_loss, batches(2, seed=5)) if kinds & {CURVATURE, INPUTS} else model


def batch_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def wished(regime: str | Regime) -> dict[str, Any]:
    """Arguments of `sparsify` for a regime of the battery."""
    return {"regime": regime} | (SETTINGS.get(regime, {}) if isinstance(regime, str) else {})


def saved(model: nn.Module) -> dict[str, Any]:
    """What a state_dict says besides weights and masks."""
    content: dict[str, Any] = json.loads(bytes(model.state_dict()["_extra_state"].tolist()))
    return content


def layer(model: nn.Module, name: str) -> MaskedLayer:
    found = model.get_submodule(name)
    assert isinstance(found, MaskedLayer)
    return found


def masks(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers() if name.endswith("mask")}


def assert_same_state(first: Any, second: Any) -> None:
    """Two state_dicts, however nested, are equal to the bit."""
    if isinstance(first, Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same_state(first[key], second[key])
    elif isinstance(first, list):
        for one, other in zip(first, second, strict=True):
            assert_same_state(one, other)
    else:
        assert first == second


def assert_resumes(
    start: Callable[[int], SparseModel],
    make: Callable[[Iterator[nn.Parameter]], Optimizer],
    data: list[tuple[Tensor, Tensor]],
    *,
    stop: int,
    steps_per_epoch: int,
    attach_first: bool = False,
) -> SparseModel:
    """A run that is saved, and goes on in another model, is to the bit the run never stopped, which is returned.

    Args:
        start: makes the model, from a seed for its weights.
        make: makes the optimizer.
        data: a batch for each step.
        stop: after how many steps the state is saved.
        steps_per_epoch: as `attach` takes it.
        attach_first: whether the other model is attached before it loads the state, too.
    """
    whole, resumed = start(3), start(4)
    optimizer, again = make(whole.parameters()), make(resumed.parameters())
    file = io.BytesIO()
    whole.attach(optimizer, steps_per_epoch=steps_per_epoch)
    for step in train(whole, optimizer, data):
        if step + 1 == stop:
            torch.save({"model": whole.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    if attach_first:
        resumed.attach(again, steps_per_epoch=steps_per_epoch)
    resumed.load_state_dict(state["model"])
    again.load_state_dict(state["optimizer"])
    resumed.attach(again, steps_per_epoch=steps_per_epoch)
    for _ in train(resumed, again, data[stop:]):
        pass
    assert_same_state(resumed.state_dict(), whole.state_dict())
    assert_same_state(again.state_dict(), optimizer.state_dict())
    return whole


def assert_zero_under_masks(model: nn.Module, optimizer: Optimizer) -> None:
    """Weights, gradients and optimizer state are zero under every mask."""
    for module in model.modules():
        if isinstance(module, MaskedLayer):
            dead, weight = ~module.mask, module.weight
            assert weight.grad is not None
            assert not weight[dead].any() and not weight.grad[dead].any()
            for name, state in optimizer.state[weight].items():
                if state.shape == weight.shape:
                    assert not state[dead].any(), name
