"""Release: zeros become small weights, and cycles of pruning, shrinking and releasing get further than one."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD

from campfire_fx import release, sparsify
from campfire_fx.base.errors import CaptureError, RegimeError
from tests.sparse_training import IMAGE, Net, batches, sparse


def pruned() -> nn.Module:
    torch.manual_seed(4)
    return sparsify(Net(), "unstructured", sparsity=0.7, example_inputs=IMAGE).finalize().eval().shrink()


def test_zeros_alone_become_noise_of_the_size_asked_for() -> None:
    slim, before = pruned(), pruned()
    state = torch.get_rng_state()
    zeros = sum(int((m.weight == 0).sum()) for m in slim.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))
    assert release(slim, 0.25, seed=1) == zeros > 100
    assert torch.equal(torch.get_rng_state(), state)
    old, new = before.state_dict()["conv1.weight"], slim.state_dict()["conv1.weight"]
    empty = old == 0
    assert torch.equal(new[~empty], old[~empty]) and bool(new[empty].all())
    ratio = float(new[empty].square().mean().sqrt() / old[~empty].square().mean().sqrt())
    assert ratio == pytest.approx(0.25, abs=3 * 0.25 / math.sqrt(2 * int(empty.sum())))
    for name, value in before.state_dict().items():
        if not name.endswith("weight") or "bn" in name:
            assert torch.equal(slim.state_dict()[name], value), name
    assert release(slim) == 0, "none is left"
    same, other = pruned(), pruned()
    release(same, 0.25, seed=1)
    release(other, 0.25, seed=2)
    assert torch.equal(same.get_submodule("conv1").weight, new)
    assert not torch.equal(other.get_submodule("conv1").weight, new)


def test_the_less_noise_the_closer_the_output() -> None:
    x = torch.randn(4, 3, 8, 8)
    expected = pruned()(x)
    moved = []
    for noise in (1e-1, 1e-3, 1e-6):
        slim = pruned()
        release(slim, noise)
        moved.append(float((slim(x) - expected).detach().abs().max()))
    assert moved[0] > moved[1] > moved[2] and moved[2] < 1e-4


def test_cycles_get_further_than_one_pass() -> None:
    """Three cycles at 85 %, with some training in each: the network goes on shrinking, exactly each time."""
    torch.manual_seed(0)
    network: nn.Module = Net()
    sizes = [sum(p.numel() for p in network.parameters())]
    for cycle in range(3):
        model = sparsify(network, "global-magnitude", sparsity=0.85, era=(0, 2), example_inputs=IMAGE).train()
        optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
        model.attach(optimizer, steps_per_epoch=3)
        for x, y in batches(9, seed=cycle):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        network = model.finalize().eval().shrink()
        sizes.append(sum(p.numel() for p in network.parameters()))
        if cycle < 2:
            assert release(network) > 0
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3]


def test_what_cannot_be_released_is_refused() -> None:
    with pytest.raises(RegimeError, match="the model holds masks. Call shrink"):
        release(sparse("ck"))
    with pytest.raises(CaptureError, match="Model at NoneType: it is None"):
        release(None)
    with pytest.raises(RegimeError, match="noise=0 is not above 0"):
        release(Net(), 0)
    dead = nn.Linear(3, 3)
    nn.init.zeros_(dead.weight)
    assert release(dead) == 0 and not dead.weight.any(), "a layer without weights says nothing of their size"
