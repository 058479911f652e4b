"""Gates at the ends of residual branches."""

from __future__ import annotations

import torch
from torch import nn

from campfire_fx import shrink
from tests.random_zeros import randomise, zero_filters


class Stream(nn.Module):
    """Residual blocks of one width; the later ones read a stream whose sums have become gates."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))
            for _ in range(blocks)
        )
        self.head = nn.Conv2d(32, 4, 1)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def test_a_layer_that_reads_a_gated_sum_reads_its_gate() -> None:
    model = randomise(Stream(3).double()).eval()
    with torch.no_grad():
        for block in model.blocks:
            zero_filters(block[2], range(28))
            block[2].bias.zero_()
            block[0].weight[:, 4:] = 0
    slim = shrink(model, torch.randn(1, 3, 32, 32).double(), residual="gate")
    names = [node.target for node in slim.graph.nodes]
    assert names.count(torch.index_select) == 3 and names.count(torch.index_add) == 3
    assert slim.verification.difference < 1e-10
    assert slim.blocks.get_submodule("1.2").out_channels == 4 and slim.blocks.get_submodule("1.0").in_channels == 4
