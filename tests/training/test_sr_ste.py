"""SR-STE against loops: N:M weights chosen after every step, gradients straight through, and the refining term."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import sr_ste
from campfire_fx.sparsity.regimes.sr_ste import SparseRefined
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import batches, masks, sparse

RATE, MOMENTUM, DECAY = 0.4, 0.9, 0.05


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, bias=False), nn.Linear(6, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x)).mean((2, 3))
        return self.fc(torch.cat([x, x[:, :2] ** 2], 1))


def chosen(weight: Tensor) -> Tensor:
    """1 of every 3 along the second axis, the largest; of equal ones the last, since the first die."""
    mask = torch.zeros_like(weight)
    for k in range(weight.shape[0]):
        for rest in torch.cartesian_prod(*map(torch.arange, weight.shape[2:])) if weight.dim() > 2 else [()]:
            for first in range(0, weight.shape[1] - 2, 3):
                run = [(abs(float(weight[(k, c, *rest)])), c) for c in range(first, first + 3)]
                mask[(k, max(run)[1], *rest)] = 1
    return mask


def test_masks_and_weights_are_those_of_the_loops() -> None:
    torch.manual_seed(0)
    model = Two().double()
    dense = [p.detach().clone() for p in model.parameters()]
    ours = sparsify(model, sr_ste(1, 3, DECAY), prune_stem=True, example_inputs=torch.zeros(1, 3, 8, 8).double())
    optimizer = SGD(ours.parameters(), RATE, momentum=MOMENTUM)
    ours.attach(optimizer)
    velocity = [torch.zeros_like(weight) for weight in dense]
    moved = 0
    for x, y in batches(8):
        kept = [chosen(weight) for weight in dense]
        assert all(torch.equal(mask, want > 0) for mask, want in zip(masks(ours).values(), kept, strict=True))
        sparse_weights = [(w * m).requires_grad_() for w, m in zip(dense, kept, strict=True)]
        hidden = F.relu(F.conv2d(x.double(), sparse_weights[0])).mean((2, 3))
        output = F.linear(torch.cat([hidden, hidden[:, :2] ** 2], 1), sparse_weights[1])
        F.cross_entropy(output, y).backward()
        for i, (weight, mask) in enumerate(zip(dense, kept, strict=True)):
            gradient = sparse_weights[i].grad
            assert gradient is not None
            velocity[i] = MOMENTUM * velocity[i] + gradient + DECAY * (1 - mask) * weight
            dense[i] = weight - RATE * velocity[i]
        optimizer.zero_grad()
        F.cross_entropy(ours(x.double()), y).backward()
        optimizer.step()
        for weight, want in zip(ours.parameters(), dense, strict=True):
            torch.testing.assert_close(weight.detach(), want, rtol=1e-12, atol=1e-14)
        moved += any(not torch.equal(chosen(w), m) for w, m in zip(dense, kept, strict=True))
    assert moved > 1, "masks that do not move prove nothing"
    final = ours.finalize()
    assert all(torch.equal(p.detach() != 0, chosen(w) > 0) for p, w in zip(final.parameters(), dense, strict=True))


def test_its_sparsity_is_that_of_the_pattern_and_a_fused_step_scales_the_pull() -> None:
    model = sparse("sr-ste", sparsity=0.9)
    assert model.sparsity().final == 0.5 and sr_ste(1, 4).sparsity == 0.75
    model.epoch(0)
    weight = model.get_parameter("conv2.weight")
    weight.grad = torch.zeros_like(weight)
    model._life_cycle.before_step(model, [weight], torch.tensor(8.0))
    assert torch.equal(weight.grad, 2e-4 * (weight * ~masks(model)["conv2.mask"]).detach() * 8)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(RegimeError, match=r"decay: -1 is outside \[0, 1\)"):
        SparseRefined(decay=-1)
    with pytest.raises(RegimeError, match="regime '4:4'"):
        sr_ste(4, 4)
